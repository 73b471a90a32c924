"""The directory of the model that a run starts from."""

from __future__ import annotations

import json
from pathlib import Path

from transformers import CONFIG_MAPPING

from launch.config.model import HubModel, ModelSource, OrganismModel, ShippedModel, hub_model
from launch.config.reading.paths import expanded
from launch.errors import ConfigError
from launch.hub.fetch import cached as in_hub_cache
from launch.hub.fetch import check_access, fetch, missing_files
from launch.hub.pins import Pins, pinned
from launch.run.models.cache import cache_errors
from shaping.models.lora.adapter_checkpoint import DOCUMENT
from shaping.models.model_files import damaged_weights
from shaping.models.saving import SavingError, rehearse_saving
from shaping.organisms.card import CARD, damage
from shaping.organisms.organism import Progress, cached, ensure
from shaping.organisms.shipped import shipped


def start_model(source: ModelSource, progress: Progress = lambda *_: None) -> Path:
    """Make or find the organism, find the model directory, or fetch the model from the Hugging Face hub.

    Raises `ConfigError` if `source` is neither a model directory nor a model that the hub or its cache has, and if it
    is an organism that should have come with the package.
    """
    if isinstance(source, ShippedModel):
        return _from_package(source)
    if isinstance(source, OrganismModel):
        try:
            with cache_errors():
                return ensure(source.organism, progress)
        except ValueError as error:  # its corpus cannot be played, or does not fit
            raise ConfigError(f"model.organism: {error}") from error
    hub = on_hub(source)
    return whole(_directory(str(source)) if hub is None else fetch(hub, progress))


def check_model(source: str | HubModel | ShippedModel, pins: Pins | None = None) -> None:
    """Raise `ConfigError` for a model of which no run could start. Nothing is fetched, but the hub may be asked.

    Args:
        source: the model.
        pins: commits that the study has taken from the hub before.
    """
    hub = on_hub(source)
    if hub is None:
        start_model(source)
    elif (path := check_access(pinned(hub, pins or {}))) is not None:
        whole(path)


def at_pin(source: ModelSource, pins: Pins) -> ModelSource:
    """The source, of a model on the hub at the commit that the study has pinned."""
    hub = on_hub(source)
    return source if hub is None else pinned(hub, pins)


def on_hub(source: ModelSource) -> HubModel | None:
    """The model of the hub that a source means, or None. A text that names something here is no model of the hub."""
    if isinstance(source, HubModel):
        return source
    if not isinstance(source, str) or expanded(source).exists():
        return None
    return hub_model(source)


def chosen_folder(source: ModelSource) -> str:
    """That a name means a folder here, although the hub could have a model of that name, in words; else empty."""
    if not isinstance(source, str) or on_hub(source) is not None or (hub := hub_model(source)) is None:
        return ""
    revision = f", revision: {hub.revision}" if hub.revision else ""
    return (
        f"model: {source} is the folder {expanded(source).absolute()}, and not the model of that name on the Hugging "
        f"Face hub, for which write {{hub: {hub.hub}{revision}}}"
    )


def _directory(name: str) -> Path:
    path = expanded(name)
    if (path / DOCUMENT).is_file():
        raise ConfigError(
            f"model: {path} holds adapters, not a whole model: start from the model that its {DOCUMENT} names, or make "
            "a whole one with `shaping export`"
        )
    if (path / "config.json").is_file():
        return path
    meant = hub_model(name)
    hub = f"{{hub: {meant.hub}}} for the model of that name on the hub" if meant else "a hub id such as Qwen/Qwen3-0.6B"
    raise ConfigError(
        f"model: {path} is not a Hugging Face model directory (no config.json); give the one that holds config.json, "
        f"the safetensors weights and the tokenizer, {hub}, or {{organism: {{}}}} for a model organism"
    )


def present_model(source: ModelSource) -> Path | None:
    """The directory of the model if it is on this machine already; nothing is made or fetched."""
    if isinstance(source, ShippedModel):
        return _from_package(source)
    if isinstance(source, OrganismModel):
        path = cached(source.organism)
        return path if (path / CARD).is_file() and not damage(path) else None
    hub = on_hub(source)
    found = expanded(str(source)) if hub is None else in_hub_cache(hub)
    return whole(found) if found is not None and (found / "config.json").is_file() else None


def whole(path: Path) -> Path:
    """`path`, if no weight file in it is cut off and all else can be saved again. Raises `ConfigError` otherwise."""
    if damaged := damaged_weights(path):
        raise ConfigError(f"model: {damaged}; copy or download the model again")
    if needs_code(path):
        raise ConfigError(
            f"model: {path} needs code of its own (auto_map in config.json), which is never run: choose a model whose "
            "class is in transformers"
        )
    try:
        rehearse_saving(path)
    except SavingError as error:
        raise ConfigError(f"model: {error}") from error
    if missing := missing_files(path):
        raise ConfigError(
            f"model: {path} lacks {', '.join(missing[:3])}; weights in other formats are not opened, since they may "
            "hold code: copy or download the whole model, or convert it to safetensors"
        )
    return path


def needs_code(path: Path) -> bool:
    """Does the model work only with Python code that comes with it?"""
    try:
        config = json.loads((path / "config.json").read_text(encoding="utf-8"))
        return "auto_map" in config and config.get("model_type") not in CONFIG_MAPPING
    except (ValueError, TypeError):  # told where the config is loaded
        return False


def _from_package(source: ShippedModel) -> Path:
    try:
        path = shipped(source.shipped)
    except (LookupError, OSError, ValueError) as error:
        raise ConfigError(f"model: {error}") from error
    if damaged := damage(path):
        raise ConfigError(f"model: the organism {path.name} of this package has changed ({damaged}); install it again")
    return path
