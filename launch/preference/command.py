"""What `shaping preference train` does after its arguments are read."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from launch.config.model import StudyModel, start_of
from launch.errors import ConfigError
from launch.preference.settings import PreferenceConfig, Source
from launch.run.models.start_model import start_model
from launch.storage.files import disk_errors
from rewards.preference.calibration import evaluate
from rewards.preference.data import Examples, PreferenceError, checked
from rewards.preference.model import Card, save
from rewards.preference.train import Trained, train

Note = Callable[[str], None]


def train_model(config: PreferenceConfig, out: Path, note: Note = lambda _: None) -> Card:
    """Train a preference model and write it to `out`, whole or not at all.

    Raises: `ConfigError` if `out` exists or the examples cannot be used.
    """
    if out.exists():
        raise ConfigError(f"{out} exists already: remove it, or choose another directory")
    try:
        trained, examples, held_out = _trained(config, note)
        measured = evaluate(trained.scorer, held_out)
    except PreferenceError as error:
        raise ConfigError(f"preference: {error}") from error
    note(summary(measured))
    made = {"config": config.model_dump(mode="json"), "examples": trained.examples, "left_out": trained.left_out}
    card = trained.card(examples, {**made, "train_loss": trained.loss, "held_out": measured})
    return publish(out, trained, card)


def publish(out: Path, trained: Trained, card: Card) -> Card:
    """Write into a temporary directory beside `out`, then rename it."""
    with disk_errors(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=".making-") as scratch:
            unpublished = Path(scratch) / "model"
            unpublished.mkdir()
            whole = save(unpublished, trained.scorer, card)
            os.replace(unpublished, out)
    return whole


def _trained(config: PreferenceConfig, note: Note) -> tuple[Trained, Examples, Examples]:
    """(the model, the examples that it was trained on, those that were held out)."""
    training, held_out = _read(config.data, "data").split(config.held_out, config.seed)
    training = checked(training, "data, without what is held out")
    note(f"{len(training)} examples to train on, {len(held_out)} held out, in {len(training.situations)} situations")
    start: Any = directory_of(config.model, config.seed)
    if config.pretraining is not None:
        before = _read(config.pretraining.data, "pretraining.data")
        if shared := set(before.situations) & set(held_out.situations):
            raise PreferenceError(f"pretraining.data holds {len(shared)} of the held-out situations: choose other ones")
        start = train(start, before, config.pretraining.training, config.reads, note).scorer
    return train(start, training, config.training, config.reads, note), training, held_out


def _read(source: Source, key: str) -> Examples:
    return checked(source.read(), key)


def directory_of(model: StudyModel, replicate: int) -> Path:
    """The directory of a model; an organism is made at first use."""
    return start_model(start_of(model, replicate))


def summary(measured: dict[str, Any]) -> str:
    """What was measured, in a line."""
    if "accuracy" not in measured:
        known = measured.get("label_accuracy")
        return "no held-out pairs" if known is None else f"label accuracy {known:.3f}{_bounds(measured, 'label_')}"
    line = f"accuracy {measured['accuracy']:.3f}{_bounds(measured)} on {measured['pairs']} held-out pairs"
    line += f" (the longer answer: {measured['longer_accuracy']:.3f})"
    if "calibration" in measured:
        line += f", Brier {measured['calibration']['brier']:.3f}, ECE {measured['calibration']['ece']:.3f}"
    return line


def _bounds(measured: dict[str, Any], prefix: str = "") -> str:
    interval = measured[f"{prefix}accuracy_interval"]
    return "" if interval is None else f" [{interval[0]:.3f}, {interval[1]:.3f}]"
