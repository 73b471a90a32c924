"""The folder in which organisms are cached: errors of the file system name the variable that moves it."""

from __future__ import annotations

import contextlib
import errno
import tempfile
from collections.abc import Iterator

from envs.cache_folder import cache_folder
from launch.errors import UserError
from shaping.organisms.card import ORGANISMS

_FULL = {errno.ENOSPC, errno.EDQUOT}


@contextlib.contextmanager
def cache_errors() -> Iterator[None]:
    """Turn errors of a cache that cannot be written into `UserError`. A full disk is told elsewhere."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise
        raise UserError(f"model: {_unusable(error)}") from error


def problem() -> str:
    """Why no organism can be cached, and what to set; empty if one can."""
    folder = cache_folder(ORGANISMS)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".making-"):
            return ""
    except OSError as error:
        return _unusable(error)


def _unusable(error: OSError) -> str:
    return (
        f"the cache of organisms, {cache_folder(ORGANISMS)}, cannot be used ({error.strerror or error}): "
        "set SHAPING_CACHE to a folder that can be written"
    )
