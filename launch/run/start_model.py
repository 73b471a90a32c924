"""The directory of the model that a run starts from."""

from __future__ import annotations

from pathlib import Path

from launch.config.model import ModelSource, OrganismModel
from launch.errors import ConfigError
from shaping.organisms.organism import Progress, ensure


def start_model(source: ModelSource, progress: Progress = lambda *_: None) -> Path:
    """Make the organism, find the model directory, or fetch the model from the Hugging Face hub.

    Raises `ConfigError` if `source` is neither a model directory nor a model that the hub or its cache has.
    """
    if isinstance(source, OrganismModel):
        return ensure(source.organism, progress)
    path = Path(source).expanduser()
    if path.exists() or path.is_absolute() or source.startswith((".", "~")) or source.count("/") != 1:
        if not (path / "config.json").is_file():
            raise ConfigError(
                f"model: {path} is not a Hugging Face model directory (no config.json); give the one that holds "
                "config.json, the safetensors weights and the tokenizer, a hub id such as Qwen/Qwen3-0.6B, or "
                "{organism: {}} for a model organism"
            )
        return path
    return _from_hub(source, progress)


def _from_hub(name: str, progress: Progress) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    progress(0, 1, f"fetching {name}")
    try:
        return Path(snapshot_download(name, allow_patterns=["*.json", "*.safetensors", "*.jinja", "*.model", "*.txt"]))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        why = str(error).strip().partition("\n")[0]
        raise ConfigError(
            f"model: {name} is no directory here, and the Hugging Face hub does not give it: {why}. Check the id and "
            "the network (HF_TOKEN for gated models, HF_HOME for the cache), or download it and give its directory"
        ) from error
