"""What `shaping directions` does after its arguments are read."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from launch.check_model.subject import subject
from launch.config.reading.yaml_reader import read_yaml
from launch.errors import ConfigError, describe
from launch.storage.files import disk_errors
from shaping.directions.contrast import CONTRASTS, Contrast, Layers
from shaping.directions.direction_set import DirectionError
from shaping.directions.extract import extract, randomised
from shaping.directions.probes import probes_of
from shaping.learning.policy import Policy
from shaping.models.lora.base_reference import BaseReference
from shaping.sampling.text.render import Renderer


def find_directions(
    model: str,
    out: Path,
    *,
    contrast: str = "deception",
    layers: str = "best",
    components: int = 0,
    random: int | None = None,
    device: str = "auto",
) -> list[str]:
    """Find directions and write them to `out`. Returns lines to be told.

    Args:
        model: directory, hub id, `organism`, `shipped` or `shipped:<number>`.
        contrast: name of a bundled one, or a YAML file.
        layers: `best`, `all`, or numbers, comma-separated.
        components: principal components; 0: the difference of means.
        random: seed of random directions to be written instead; None: those that were found.
        device: of the model.
    """
    sides, wanted = contrast_of(contrast), layers_of(layers)
    found = subject(model)
    policy = Policy.load(found.directory, device=device, name=found.name)
    base = BaseReference.of(found.directory, found.name)
    try:
        made_of = {"model": base.name, "revision": base.revision, "hash": base.hash, "name": contrast}
        probes = probes_of(policy, sides, Renderer(policy.tokenizer))
        kept = extract(policy, sides, wanted, components=components, probes=probes, made_of=made_of)
        if random is not None:
            kept = randomised(policy, kept, probes, random)
    except DirectionError as error:
        raise ConfigError(f"directions: {error}") from error
    with disk_errors(out):
        kept.save(out)
    lines = [
        f"layer {layer}: length {length:.4g}, {length / norm:.1%} of the mean norm of the layer's states"
        for layer, length, norm in zip(
            kept.layers, (kept.vectors.astype(float) ** 2).sum(axis=1) ** 0.5, kept.residual_norms, strict=True
        )
    ]
    told = ", ".join(f"{value:.2f}" for value in kept.card["separation"])
    return [*lines, f"the sides are {told} deviations apart in situations that were held out", f"kept in {out}"]


def contrast_of(name: str) -> Contrast:
    """The contrast of a name or of a YAML file. Raises `ConfigError`."""
    if name in CONTRASTS:
        return CONTRASTS[name]
    path = Path(name).expanduser()
    if not path.is_file():
        raise ConfigError(f"contrast: {name!r} is neither a file nor one of {', '.join(CONTRASTS)}")
    try:
        return Contrast.model_validate(read_yaml(path.read_text(encoding="utf-8"), str(path)).value)
    except ValidationError as error:
        raise ConfigError(f"{path}: {describe(error, Contrast)}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: no text in UTF-8: {error}") from None


def layers_of(text: str) -> Layers:
    """`best`, `all`, or numbers. Raises `ConfigError`."""
    if text in ("best", "all"):
        return text  # type: ignore[return-value]
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise ConfigError(f"layers: {text!r} is not best, all, or whole numbers with commas between them") from None
