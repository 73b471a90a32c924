"""Directions of a start model in a file: found before the run, once per model and settings, and cached."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch

from shaping.directions import extract as _extract
from shaping.directions.contrast import Contrast, Layers
from shaping.learning.policy import Policy
from shaping.models.lora.base_reference import BaseReference
from shaping.organisms.config import OrganismConfig
from shaping.organisms.made_once import made_once
from shaping.organisms.organism import content_hash

_FILE = "directions.safetensors"


def stored_contrast(model: Path, contrast: Contrast, layers: Layers, components: int = 0) -> Path:
    """The file with a contrast's directions in the model of the directory `model`, see `extract`.

    The global random generators stay as they are. Raises: `DirectionError`.
    """
    key: dict[str, object] = {
        "model": BaseReference.of(model).hash,
        "contrast": contrast.model_dump(mode="json"),
        "layers": layers if isinstance(layers, str) else list(layers),
        "components": components,
        "sources": content_hash(OrganismConfig()),  # worlds, personas, prompts and versions of libraries
        "extractor": hashlib.sha256(Path(_extract.__file__).read_bytes()).hexdigest(),
    }

    def write(directory: Path) -> None:
        with torch.random.fork_rng():
            found = _extract.extract(Policy.load(model), contrast, layers, components=components)
        found.save(directory / _FILE)

    return made_once("directions", key, write) / _FILE
