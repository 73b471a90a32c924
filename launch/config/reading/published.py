"""Settings as others may read them: without places on the machine where the study ran."""

from __future__ import annotations

import re
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

_POSIX, _WINDOWS = re.compile(r"(?:/[^\s/]+|~[\w.-]*)/[^\n]+"), re.compile(r"[A-Za-z]:[\\/][^\n]+")
"""An absolute path has two parts at least, so that a directive in a prompt (`/no_think`) is none."""


def without_places(value: Any) -> Any:
    """The same settings with the last part of every absolute path alone: a model's name instead of where it lies."""
    if isinstance(value, dict):
        return {key: without_places(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_places(item) for item in value]
    if isinstance(value, str) and _POSIX.fullmatch(value):
        return PurePosixPath(value).name
    if isinstance(value, str) and _WINDOWS.fullmatch(value):
        return PureWindowsPath(value).name
    return value
