"""The commits at which a study took its models from the Hugging Face hub: all of its runs start from these.

A branch moves. Without pins, the runs of a study that was interrupted and resumed could start from different weights.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from launch.config.model import HubModel
from launch.errors import RunDirectoryError
from launch.storage.documents import write_json
from launch.storage.files import disk_errors, make_directory

Pins = Mapping[str, str]
"""Model as the study names it -> commit."""


def read_pins(study: Path) -> dict[str, str]:
    """The pins of a study's directory; none if it has not begun.

    Raises: `RunDirectoryError` if the file is damaged.
    """
    path = _file(study)
    if not path.is_file():
        return {}
    try:
        named = {name: HubModel(hub="a/b", revision=commit) for name, commit in json.loads(path.read_text()).items()}
    except (OSError, ValueError, AttributeError) as error:
        named = {"": HubModel(hub="a/b")}
        cause: Exception | None = error
    else:
        cause = None
    if not all(model.is_commit for model in named.values()):
        raise RunDirectoryError(
            f"{path} is damaged: it should map models of the hub to the commits that this study began with; put it "
            "back, or remove it to take the models as they are now"
        ) from cause
    return {name: str(model.revision) for name, model in named.items()}


def pin(study: Path, model: HubModel, commit: str) -> None:
    """Keep the commit of a model, unless the study has one already."""
    pins = read_pins(study)
    if str(model) not in pins and not model.is_commit:
        with disk_errors(study):
            make_directory(study / "model")
            write_json(_file(study), {**pins, str(model): commit})


def pinned(model: HubModel, pins: Pins) -> HubModel:
    """The model at its pinned commit, or as it is."""
    commit = pins.get(str(model))
    return HubModel(hub=model.hub, revision=commit) if commit else model


def _file(study: Path) -> Path:
    return study / "model" / "hub-commits.json"
