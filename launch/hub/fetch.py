"""Models of the Hugging Face hub: found in its cache or fetched, without pickles and without code."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from launch.config.model import HubModel
from launch.errors import ConfigError
from launch.hub.failures import FAILURES, told
from shaping.models.model_files import indexed_weights
from shaping.organisms.organism import Progress

WANTED = ["*.json", "*.safetensors", "*.jinja", "*.model", "*.txt", "*.tiktoken"]
"""Weights, config, tokenizer and chat template. Pickles and Python files are never fetched."""
UNWANTED = ["*/*", "consolidated*"]
"""Folders hold other formats and checkpoints; `consolidated` is a second copy of the weights."""
PATIENCE = 20.0
"""Seconds to wait for the hub's answer about a model."""


def fetch(model: HubModel, progress: Progress = lambda *_: None) -> Path:
    """The snapshot of a model in the cache of the hub; what is missing is fetched first.

    Raises: `ConfigError` that says why the model cannot be had, and what to do.
    """
    if model.is_commit and (found := cached(model)) is not None:
        return found
    progress(0, 1, f"fetching {model} from the Hugging Face hub")
    path = _snapshot(model, local=False)
    if missing := missing_files(path):
        raise ConfigError(_incomplete(model, path, missing))
    return path


def cached(model: HubModel) -> Path | None:
    """The snapshot of a model if all of it is in the cache. The hub is not asked."""
    try:
        path = _snapshot(model, local=True)
    except ConfigError:
        return None
    return None if missing_files(path) else path


def check_access(model: HubModel) -> Path | None:
    """The snapshot if it is in the cache; otherwise ask the hub whether it would give the model, and fetch nothing.

    Raises: `ConfigError` that says why the model cannot be had, and what to do.
    """
    found = cached(model)
    if found is not None:
        return found
    from huggingface_hub import HfApi, get_hf_file_metadata, hf_hub_url

    try:
        info = HfApi().model_info(model.hub, revision=model.revision, timeout=PATIENCE)
        names = [file.rfilename for file in info.siblings or ()]
        if "config.json" in names and any(_is_weights(name) for name in names):
            url = hf_hub_url(model.hub, "config.json", revision=info.sha)
            get_hf_file_metadata(url, timeout=PATIENCE)  # of a gated model everybody sees the names of the files
            return None
    except FAILURES as error:
        raise ConfigError(told(error, model, _partly(model))) from error
    raise ConfigError(_unusable(model, names))


def missing_files(path: Path) -> list[str]:
    """What a model directory lacks: its config, its weights, or some files of its weights."""
    missing = [] if (path / "config.json").is_file() else ["config.json"]
    if (named := indexed_weights(path)) is not None:
        return missing + sorted(name for name in named if not (path / name).is_file())
    return missing + ([] if any(path.glob("*.safetensors")) else ["*.safetensors"])


def _snapshot(model: HubModel, *, local: bool) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(
            snapshot_download(
                model.hub,
                revision=model.revision,
                allow_patterns=WANTED,
                ignore_patterns=UNWANTED,
                local_files_only=local,
            )
        )
    except FAILURES as error:
        raise ConfigError(told(error, model, [] if local else _partly(model))) from error


def _partly(model: HubModel) -> list[str]:
    """Files that the cache lacks of a snapshot that it has begun; empty if it has nothing of it."""
    from huggingface_hub import constants

    home = Path(constants.HF_HUB_CACHE) / f"models--{model.hub.replace('/', '--')}"
    reference = home / "refs" / (model.revision or constants.DEFAULT_REVISION)
    commit = reference.read_text().strip() if reference.is_file() else model.revision or ""
    path = home / "snapshots" / commit
    return missing_files(path) if commit and path.is_dir() else []


def _is_weights(name: str) -> bool:
    return name.endswith(".safetensors") and "/" not in name and not name.startswith("consolidated")


def _unusable(model: HubModel, names: Sequence[str]) -> str:
    if "config.json" not in names:
        return (
            f"model: {model} on the Hugging Face hub is no model of transformers (it has no config.json): choose the "
            "repository with the weights in that layout"
        )
    pickles = sorted(name for name in names if name.endswith((".bin", ".pt", ".pth", ".ckpt")))
    has = f" but {', '.join(pickles[:2])}, which may hold code and is not opened" if pickles else ""
    return (
        f"model: {model} on the Hugging Face hub has no *.safetensors weights{has}: choose a revision or another "
        "repository that has them, or convert it and give its directory"
    )


def _incomplete(model: HubModel, path: Path, missing: Sequence[str]) -> str:
    if "config.json" in missing or "*.safetensors" in missing:
        return _unusable(model, [file.name for file in path.iterdir()])
    return f"model: {model} on the Hugging Face hub lacks {', '.join(missing[:3])}, which its index names"
