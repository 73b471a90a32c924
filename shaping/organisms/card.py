"""The card of a cached organism, `organism.json`: its settings, and the hashes that its files must have."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from shaping.models import model_files
from shaping.organisms.config import OrganismConfig

CARD = "organism.json"
ORGANISMS = "organisms"
"""The folder of the cache that holds organisms."""


def write_card(directory: Path, config: OrganismConfig, numbers: Mapping[str, Any]) -> None:
    """Describe the organism in `directory`. Call it last: the card marks the directory as whole."""
    card = {"config": config.model_dump(), **numbers, "files": model_files.hashes(directory)}
    (directory / CARD).write_text(json.dumps(card, indent=2), encoding="utf-8")


def damage(directory: Path) -> str:
    """How a cached organism differs from its card; empty if it does not."""
    try:
        files = json.loads((directory / CARD).read_text(encoding="utf-8"))["files"]
        wrong = model_files.changed(dict(files), model_files.hashes(directory))
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        return f"{CARD} cannot be read ({type(error).__name__})"
    return wrong[0] if wrong else ""
