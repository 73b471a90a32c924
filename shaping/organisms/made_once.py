"""Directories that are made once, of what depends on a model and settings alone, and cached beside the organisms."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from envs.cache_folder import cache_folder


def made_once(folder: str, key: Mapping[str, object], write: Callable[[Path], None]) -> Path:
    """The directory that `write` fills, named by the hash of what it depends on. It appears whole or not at all."""
    name = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
    path = cache_folder(folder) / name
    if path.is_dir():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".making-") as scratch:
        unpublished = Path(scratch) / "made"
        unpublished.mkdir()
        write(unpublished)
        try:
            os.replace(unpublished, path)
        except OSError:  # another process was faster, and what it made is the same
            if not path.is_dir():
                raise
    return path
