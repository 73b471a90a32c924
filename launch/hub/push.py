"""Publish a finished run's model on the Hugging Face hub, with a card that says which run made it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from launch.config.model import HubModel, hub_model
from launch.errors import UserError
from launch.terminal import say

if TYPE_CHECKING:
    from launch.storage.rundir import RunDirectory

CARD = "README.md"


def push(
    run_dir: Annotated[Path, typer.Argument(help="a finished run: runs/<study>/runs/<arm>/seed-<k>")],
    name: Annotated[str, typer.Argument(metavar="OWNER/NAME", help="the repository, made if there is none")],
    private: Annotated[bool, typer.Option("--private", help="make it private, if it is new")] = False,
    revision: Annotated[str, typer.Option(help="the branch to upload to")] = "main",
) -> None:
    """Upload a run's model to the Hugging Face hub, with a card of study, arm, seed and config."""
    where = upload(run_dir, name, private=private, revision=revision, note=say)
    say(f"uploaded: {where}")


def upload(
    run_dir: Path, name: str, *, private: bool, revision: str = "main", note: Callable[[str], None] = lambda _: None
) -> str:
    """Upload the checkpoint of a run in one commit. Returns the address of the commit.

    Args:
        run_dir: the run's directory.
        name: `OWNER/NAME`.
        private: make a new repository private.
        revision: the branch.
        note: receives messages for the user.

    Raises: `UserError` if the run is not finished, or the hub does not take the model.
    """
    target = hub_model(name)
    if target is None or target.revision:
        raise UserError(f"{name!r} is no name of a repository: write OWNER/NAME (the branch is --revision)")
    directory, card = card_of(run_dir)
    return _commit(directory.checkpoint, card(""), target, private=private, revision=revision, note=note)


def card_of(run_dir: Path) -> tuple[RunDirectory, Callable[[str], str]]:
    """A finished run, and its card, given what the card says of the study. Raises `UserError` if it is not finished."""
    from launch.config.reading.recorded import recorded_run
    from launch.hub.card import model_card
    from launch.storage.finished import finished_run
    from shaping.models.lora.adapter_checkpoint import FOLDER, stored_adapters

    directory = finished_run(run_dir)
    record = directory.record()
    run = recorded_run(record["config"]).model_copy(update={"commit": record.get("commit", "")})
    stored = stored_adapters(directory.checkpoint)
    folders = [f"{FOLDER}/{adapter}" for adapter in stored.adapters] if stored else []
    result = directory.result() or {}
    return directory, lambda study: model_card(run, record, result, folders, study)


def _commit(
    folder: Path, card: str, target: HubModel, *, private: bool, revision: str, note: Callable[[str], None]
) -> str:
    from huggingface_hub import CommitOperationAdd, HfApi

    from launch.hub.failures import FAILURES

    files = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    operations = [CommitOperationAdd(name, str(path)) for name, path in files.items() if name != CARD]
    operations.append(CommitOperationAdd(CARD, card.encode("utf-8")))
    size = sum(path.stat().st_size for path in files.values())
    note(f"uploading {len(operations)} files, {size / 1e6:,.1f} MB, to {target.hub}")
    api = HfApi()
    try:
        api.create_repo(target.hub, private=private, exist_ok=True)
        if revision != "main":
            api.create_branch(target.hub, branch=revision, exist_ok=True)
        done = api.create_commit(target.hub, operations, commit_message=_title(card), revision=revision)
    except FAILURES as error:
        raise UserError(_refused(error, target)) from error
    return str(done.commit_url)


def _title(card: str) -> str:
    """The card's heading."""
    return next(line.removeprefix("# ") for line in card.splitlines() if line.startswith("# "))


def _refused(error: Exception, target: HubModel) -> str:
    from huggingface_hub import constants
    from huggingface_hub.errors import HfHubHTTPError

    why = " ".join(str(error).split())[:200]
    if isinstance(error, HfHubHTTPError) and error.response.status_code in (401, 403):
        return (
            f"{constants.ENDPOINT} does not let this account write to {target.hub}: log in with a token that may write "
            f"(`hf auth login`, or HF_TOKEN in the environment), or choose a name of your own ({why})"
        )
    if constants.HF_HUB_OFFLINE:
        return f"nothing can be uploaded to {target.hub} in offline mode: unset HF_HUB_OFFLINE and TRANSFORMERS_OFFLINE"
    return f"{target.hub} could not be uploaded to {constants.ENDPOINT}: {why}; check the network and try again"
