"""Where what takes long to make is kept between runs: games, organisms, gates, directions."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder(name: str) -> Path:
    """The folder `name` below $SHAPING_CACHE, or below the user's cache directory. It need not exist."""
    root = os.environ.get("SHAPING_CACHE") or os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "shaping" / name
