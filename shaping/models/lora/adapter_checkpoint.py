"""A checkpoint of adapters: which model they belong to, and each of them in PEFT's layout.

checkpoint.json                  names of the adapters in their order, and the base (`BaseReference`)
adapters/<name>/                 adapter_config.json, adapter_model.safetensors, base.json
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from shaping.hooks import AdapterSpec
from shaping.models.lora.adapters import AdapterError, Adapters
from shaping.models.lora.base_reference import BaseReference

DOCUMENT, FOLDER = "checkpoint.json", "adapters"


class AdapterCheckpoint(BaseModel):
    """The document of a checkpoint of adapters."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal["shaping-adapters"] = "shaping-adapters"
    version: Literal[1] = 1
    base: BaseReference | None = Field(description="none: the model was made in memory")
    adapters: tuple[str, ...] = Field(min_length=1, description="in the order in which their outputs add up")


def save_adapters(adapters: Adapters, names: tuple[str, ...], directory: Path, base: BaseReference | None) -> None:
    """Write adapters that were trained on `base`."""
    for name in names:
        adapters.save(name, directory / FOLDER / name, base)
    document = AdapterCheckpoint(base=base, adapters=names)
    (directory / DOCUMENT).write_text(document.model_dump_json(indent=1) + "\n", encoding="utf-8")


def stored_adapters(directory: Path) -> AdapterCheckpoint | None:
    """The document of a checkpoint; None if it holds a whole model. Raises: `AdapterError` if it is damaged."""
    path = directory / DOCUMENT
    try:
        return AdapterCheckpoint.model_validate_json(path.read_bytes()) if path.is_file() else None
    except (OSError, ValidationError) as error:
        raise AdapterError(f"{path} cannot be read: {' '.join(str(error).split())[:200]}") from error


def specs_of(directory: Path, stored: AdapterCheckpoint) -> list[AdapterSpec]:
    """What loads these adapters on top of their base as they were trained, in the same order.

    Raises: `AdapterError` if one is missing or damaged.
    """
    specs = []
    for name in stored.adapters:
        folder = directory / FOLDER / name
        try:
            settings = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
            targets = (*map(str, settings["target_modules"]), *map(str, settings.get("target_parameters") or ()))
            specs.append(AdapterSpec(name, "kept", int(settings["r"]), settings["lora_alpha"], targets, str(folder)))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise AdapterError(f"{folder}/adapter_config.json cannot be read: {error!r}") from error
    return specs
