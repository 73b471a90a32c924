"""Why the Hugging Face hub does not give a model: one sentence with what to do about it."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence

from huggingface_hub import constants
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from launch.config.model import HubModel

_FULL = {errno.ENOSPC, errno.EDQUOT}


FAILURES: tuple[type[Exception], ...] = (OSError, HFValidationError, HfHubHTTPError.__bases__[0])
"""What the hub's client raises. The last is the base of errors of its transport, httpx or httpx2."""


def told(error: Exception, model: HubModel, missing: Sequence[str] = ()) -> str:
    """The sentence.

    Args:
        error: one of `FAILURES`. A full disk is raised again, since it is told elsewhere.
        model: what was asked for.
        missing: files that the cache lacks of a model that it has begun.
    """
    where, name = constants.ENDPOINT, model.hub
    if isinstance(error, GatedRepoError):
        return (
            f"model: {name} is gated: accept its terms at {where}/{name}, then log in (`hf auth login`, or HF_TOKEN in "
            "the environment)"
        )
    if isinstance(error, RepositoryNotFoundError):
        return (
            f"model: there is no directory {name} here and no model of that name at {where}, or it is private: check "
            "the spelling, or log in for a private one (`hf auth login`, or HF_TOKEN in the environment)"
        )
    if isinstance(error, RevisionNotFoundError):
        return f"model: {name} has no revision {model.revision!r}: choose a branch, tag or commit of {where}/{name}"
    if isinstance(error, HFValidationError):
        return f"model: {model} is no id of the hub: write OWNER/NAME or OWNER/NAME@REVISION"
    if isinstance(error, HfHubHTTPError) and (refused := _refused(error, model)):
        return refused
    if (
        isinstance(error, OSError)
        and error.errno is not None
        and not isinstance(error, (ConnectionError, TimeoutError))
    ):
        return _unwritable(error)
    return _unreachable(error, model, missing)


def _refused(error: HfHubHTTPError, model: HubModel) -> str:
    """What an answer of the hub means; empty if it is the hub's own fault."""
    status = error.response.status_code
    if status == 401:
        return (
            f"model: {constants.ENDPOINT} refuses the token that is set: log in again (`hf auth login`), or set or "
            "remove HF_TOKEN"
        )
    if status == 403:
        return (
            f"model: {constants.ENDPOINT} gives this token no access to {model.hub}: ask for it at "
            f"{constants.ENDPOINT}/{model.hub}, or set the HF_TOKEN of an account that has it"
        )
    return ""


def _unwritable(error: OSError) -> str:
    if error.errno in _FULL:
        raise error
    return (
        f"model: the cache of the Hugging Face hub, {constants.HF_HUB_CACHE}, cannot be used "
        f"({error.strerror or error}): set HF_HOME to a folder that can be written"
    )


def _unreachable(error: Exception, model: HubModel, missing: Sequence[str]) -> str:
    revision = f" --revision {model.revision}" if model.revision else ""
    fetch = f"`hf download {model.hub}{revision}`"
    part = f"only a part of {model} is" if missing else f"{model} is no directory here, and not"
    lacks = f" (it lacks {', '.join(missing[:3])})" if missing else ""
    start = f"model: {part} in the cache {constants.HF_HUB_CACHE}{lacks}, and "
    other = "name a cache that has it (HF_HOME), or give its directory"
    if variable := _offline_by(error):
        return (
            f"{start}offline mode ({variable}) forbids to fetch it: do so where there is a network ({fetch}), {other}"
        )
    return (
        f"{start}{constants.ENDPOINT} does not answer ({_cause(error)}): check the network, its proxy and HF_ENDPOINT; "
        f"or fetch it elsewhere ({fetch}), {other}"
    )


def _offline_by(error: Exception) -> str:
    """The variable that forbids the network; empty if the network was asked."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, OfflineModeIsEnabled):
        cause = cause.__cause__
    if cause is None and not constants.HF_HUB_OFFLINE:
        return ""
    named = [name for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE") if os.environ.get(name)]
    return f"{named[0]}={os.environ[named[0]]}" if named else "HF_HUB_OFFLINE"


def _cause(error: Exception) -> str:
    """The innermost reason, in one line."""
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    text = " ".join(str(cause).split())[:120]
    return text or type(cause).__name__
