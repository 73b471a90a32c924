"""The smallest organism that plays: hardly trained, made in two seconds, in a cache of its own."""

from __future__ import annotations

import os
from pathlib import Path
from unittest import mock

from shaping.organisms.config import OrganismConfig
from shaping.organisms.organism import ensure

SMALL = {"hidden": 32, "layers": 1, "heads": 2, "kv_heads": 1, "vocabulary": 400, "episodes": 12, "steps": 2}


def small_organism(cache: Path, **settings: int) -> Path:
    with mock.patch.dict(os.environ, SHAPING_CACHE=str(cache)):
        return ensure(OrganismConfig(**{**SMALL, **settings}))
