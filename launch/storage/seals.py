"""What a finished run vouches for: size and hash of every file that it wrote. Files of others are no part of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from shaping.models.model_files import content_hash

Seal = dict[str, Any]
"""Size and hash of a file: {"bytes": n, "blake2b": hex}."""
FILES = ("metrics.jsonl", "eval.jsonl")
WEIGHTS = ("checkpoint", "quarantine")
"""Folders of weights: gigabytes, perhaps."""
EPISODES = "episodes"
RECORDS = "records"
"""Folder in it for what monitors said of the episodes."""


def written_files(path: Path) -> list[str]:
    """Names of the files of a run that a seal covers. Hidden files (`.DS_Store`, `.x.swp`) are never the run's own."""
    found = [path / name for name in FILES]
    found += [*(path / EPISODES).glob("*.parquet"), *(path / EPISODES / RECORDS).glob("*.parquet")]
    found += (file for folder in WEIGHTS for file in (path / folder).rglob("*"))
    names = (file.relative_to(path) for file in found if file.is_file())
    return sorted(name.as_posix() for name in names if not any(part.startswith(".") for part in name.parts))


def seal(path: Path) -> Seal:
    """The seal of a file, which is read as a stream."""
    return {"bytes": path.stat().st_size, "blake2b": content_hash(path)}


def seals(path: Path, names: Iterable[str]) -> dict[str, Seal]:
    """The seals of files of a run."""
    return {name: seal(path / name) for name in names}


def broken(path: Path, sealed: Any, *, contents: bool = True) -> str:
    """How a file differs from its seal; empty if it does not. Without `contents` only its size is compared.

    A seal of an earlier version is the size alone.
    """
    expected = sealed if isinstance(sealed, Mapping) else {"bytes": sealed}
    try:
        size = path.stat().st_size
        if size != expected.get("bytes"):
            return f"has {size} bytes instead of {expected.get('bytes')}"
        if contents and "blake2b" in expected and content_hash(path) != expected["blake2b"]:
            return "has other contents"
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return ""


def is_weights(name: str) -> bool:
    """Is it one of the files that may be large?"""
    return name.partition("/")[0] in WEIGHTS
