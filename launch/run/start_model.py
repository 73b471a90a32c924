"""The directory of the model that a run starts from."""

from __future__ import annotations

from pathlib import Path

from launch.config.model import ModelSource, OrganismModel, ShippedModel
from launch.config.paths import expanded
from launch.errors import ConfigError
from launch.run.cache import cache_errors
from shaping.models.adapter_checkpoint import DOCUMENT
from shaping.models.model_files import damaged_weights
from shaping.models.saving import SavingError, rehearse_saving
from shaping.organisms.card import CARD, damage
from shaping.organisms.organism import Progress, cached, ensure
from shaping.organisms.shipped import shipped


def start_model(source: ModelSource, progress: Progress = lambda *_: None, revision: str = "") -> Path:
    """Make or find the organism, find the model directory, or fetch the model from the Hugging Face hub.

    `revision`: the commit of a model on the hub; empty: the newest.

    Raises `ConfigError` if `source` is neither a model directory nor a model that the hub or its cache has, and if it
    is an organism that should have come with the package.
    """
    if isinstance(source, ShippedModel):
        return _from_package(source)
    if isinstance(source, OrganismModel):
        with cache_errors():
            return ensure(source.organism, progress)
    path = expanded(source)
    if _is_path(source):
        if (path / DOCUMENT).is_file():
            raise ConfigError(
                f"model: {path} holds adapters, not a whole model: start from the model that its {DOCUMENT} names, or "
                "make a whole one with `shaping export`"
            )
        if not (path / "config.json").is_file():
            raise ConfigError(
                f"model: {path} is not a Hugging Face model directory (no config.json); give the one that holds "
                "config.json, the safetensors weights and the tokenizer, a hub id such as Qwen/Qwen3-0.6B, or "
                "{organism: {}} for a model organism"
            )
        return whole(path)
    return whole(_from_hub(source, progress, revision=revision))


def check_model(source: str | ShippedModel) -> None:
    """Raise `ConfigError` for a model that is here and of which no run could start."""
    if isinstance(source, ShippedModel) or _is_path(source):
        start_model(source)
    else:
        present_model(source)


def _is_path(source: str) -> bool:
    path = expanded(source)
    return path.exists() or path.is_absolute() or source.startswith((".", "~")) or source.count("/") != 1


def present_model(source: ModelSource) -> Path | None:
    """The directory of the model if it is on this machine already; nothing is made or fetched."""
    if isinstance(source, ShippedModel):
        return _from_package(source)
    if isinstance(source, OrganismModel):
        path = cached(source.organism)
        return path if (path / CARD).is_file() and not damage(path) else None
    path = expanded(source)
    if not (path / "config.json").is_file():
        try:
            path = _from_hub(source, lambda *_: None, local=True)
        except ConfigError:
            return None
    return whole(path)


def whole(path: Path) -> Path:
    """`path`, if no weight file in it is cut off and all else can be saved again. Raises `ConfigError` otherwise."""
    if damaged := damaged_weights(path):
        raise ConfigError(f"model: {damaged}; copy or download the model again")
    try:
        rehearse_saving(path)
    except SavingError as error:
        raise ConfigError(f"model: {error}") from error
    return path


def _from_package(source: ShippedModel) -> Path:
    try:
        path = shipped(source.shipped)
    except (LookupError, OSError, ValueError) as error:
        raise ConfigError(f"model: {error}") from error
    if damaged := damage(path):
        raise ConfigError(f"model: the organism {path.name} of this package has changed ({damaged}); install it again")
    return path


def _from_hub(name: str, progress: Progress, *, local: bool = False, revision: str = "") -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    progress(0, 1, f"fetching {name}")
    try:
        wanted = ["*.json", "*.safetensors", "*.jinja", "*.model", "*.txt"]
        found = snapshot_download(name, revision=revision or None, allow_patterns=wanted, local_files_only=local)
        return Path(found)
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        why = str(error).strip().partition("\n")[0]
        raise ConfigError(
            f"model: {name} is no directory here, and the Hugging Face hub does not give it: {why}. Check the id and "
            "the network (HF_TOKEN for gated models, HF_HOME for the cache), or download it and give its directory"
        ) from error
