"""Paths in a config. They are kept as they are written (no record holds a home directory) and expanded at use."""

from __future__ import annotations

from pathlib import Path

from launch.errors import ConfigError


def expanded(path: str) -> Path:
    """The path with `~` and `~name` replaced by the home directory. Raises `ConfigError` if there is none."""
    try:
        return Path(path).expanduser()
    except (RuntimeError, KeyError) as error:
        raise ConfigError(f"{path!r}: no home directory is known for it ({error}): write the whole path") from None
