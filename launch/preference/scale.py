"""`shaping preference scale`: a grid of preference models, and the power laws of their errors.

Each model is a row of rows.jsonl as soon as it is measured, so that a long grid can be run in slices. All of a grid
are measured on the same comparisons, whose seeds no model is trained on.
"""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from launch.errors import ConfigError
from launch.preference.command import Note, directory_of, summary
from launch.preference.page import page
from launch.preference.settings import ScaleConfig
from launch.storage.files import disk_errors
from rewards.preference.calibration import evaluate
from rewards.preference.data import Examples, PreferenceError
from rewards.preference.model import Objective, Scorer
from rewards.preference.scaling import error_of, power_law
from rewards.preference.train import train
from shaping.organisms.corpus.comparisons import comparisons

HELD_OUT_SEED = 99_999
"""Seed of the comparisons that the models are measured on; replicate k trains on those of the seed of `data` plus k."""
NONE = "none"
"""Name of training without a stage before it."""
_KEY = ("model", "objective", "pretraining", "examples", "seed")


@dataclass(frozen=True, slots=True)
class Cell:
    """One model of the grid."""

    model: str
    objective: Objective
    pretraining: str
    examples: int
    seed: int

    @property
    def key(self) -> tuple[object, ...]:
        return tuple(getattr(self, name) for name in _KEY)


def cells(config: ScaleConfig) -> Iterator[Cell]:
    """All models of the grid; those that share a pre-trained one stand together."""
    for seed in range(config.seeds):
        for model in config.models:
            for stage in (NONE, *config.pretraining):
                for objective in config.objectives:
                    if stage == NONE or objective != "imitation":
                        for count in sorted(config.examples):
                            yield Cell(model, objective, stage, count, seed)


def scale(config: ScaleConfig, out: Path, most: int | None = None, note: Note = lambda _: None) -> dict[str, Any]:
    """Train what is left of the grid, at most `most` models, and write the results of all that is done.

    Raises: `ConfigError` for a directory with the results of other settings.
    """
    with disk_errors(out):
        out.mkdir(parents=True, exist_ok=True)
        rows = _done(config, out)
    known = {tuple(row[name] for name in _KEY) for row in rows}
    left = [cell for cell in cells(config) if cell.key not in known]
    now = min(len(left), most or len(left))
    note(f"{len(known)} models are there, {len(left)} are left, of which {now} are made now")
    try:
        grid = _Grid(config, note)
        for cell in left[:most]:
            row = grid.row(cell)
            rows.append(row)
            with disk_errors(out), (out / "rows.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
            note(f"{' '.join(map(str, cell.key))}: {summary(row)}, {row['seconds']:.0f} s")
    except PreferenceError as error:
        raise ConfigError(f"preference: {error}") from error
    result = {"settings": config.model_dump(mode="json"), "left": len(left) - now}
    result |= {"fits": fits(rows), "rows": [_brief(row) for row in rows]}
    with disk_errors(out):
        (out / "scaling.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        (out / "scaling.md").write_text(page(result), encoding="utf-8")
    return result


def _done(config: ScaleConfig, out: Path) -> list[dict[str, Any]]:
    """The rows of models that are done, of the same settings."""
    settings = out / "settings.json"
    now = config.model_dump_json(indent=1) + "\n"
    if not settings.exists():
        settings.write_text(now, encoding="utf-8")
    elif settings.read_text(encoding="utf-8") != now:
        raise ConfigError(f"{out} holds results of other settings ({settings.name}): choose another directory")
    path = out / "rows.jsonl"
    if not path.exists():
        return []
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except ValueError as error:
        raise ConfigError(f"{path} is damaged: {error}: remove its last line if a call was cut off there") from None


class _Grid:
    """Makes rows. It keeps what neighbouring cells share: examples, and the pre-trained model."""

    def __init__(self, config: ScaleConfig, note: Note) -> None:
        self._config = config
        self._note = note
        held = config.data.model_copy(update={"pairs": config.held_out, "seed": HELD_OUT_SEED, "flipped": 0.0})
        self._held_out = comparisons(held)
        self._examples: tuple[int, Examples] | None = None
        self._before: tuple[tuple[str, str, int], Scorer] | None = None

    def row(self, cell: Cell) -> dict[str, Any]:
        """Train and measure one model."""
        begun = time.monotonic()
        settings = self._config.training.model_copy(update={"objective": cell.objective, "seed": cell.seed})
        start = self._start(cell)
        trained = train(start, self._training(cell.seed).first(cell.examples), settings, self._config.reads, self._note)
        size = sum(parameter.numel() for parameter in trained.scorer.model.parameters())
        return {
            **dict(zip(_KEY, cell.key, strict=True)),
            "parameters": size,
            "trained_on": trained.examples,
            "train_loss": trained.loss,
            **evaluate(trained.scorer, self._held_out),
            "seconds": time.monotonic() - begun,
        }

    def _training(self, seed: int) -> Examples:
        if self._examples is None or self._examples[0] != seed:
            settings = self._config.data
            own = {"pairs": max(self._config.examples), "seed": settings.seed + seed}
            self._examples = seed, comparisons(settings.model_copy(update=own))
        return self._examples[1]

    def _start(self, cell: Cell) -> Path | Scorer:
        directory = directory_of(self._config.models[cell.model], cell.seed)
        if cell.pretraining == NONE:
            return directory
        key = (cell.model, cell.pretraining, cell.seed)
        if self._before is None or self._before[0] != key:
            stage = self._config.pretraining[cell.pretraining]
            settings = stage.training.model_copy(update={"seed": cell.seed})
            self._before = key, train(directory, stage.data.read(), settings, self._config.reads, self._note).scorer
        scorer = self._before[1]
        return Scorer(copy.deepcopy(scorer.model), scorer.tokenizer, scorer.objective, scorer.reads)


def _brief(row: dict[str, Any]) -> dict[str, Any]:
    """A row without reliability curves of its own, which stay in rows.jsonl."""
    short = {key: value for key, value in row.items() if key not in ("calibration", "label_calibration")}
    for name in ("calibration", "label_calibration"):
        if name in row:
            short |= {f"{name}_brier": row[name]["brier"], f"{name}_ece": row[name]["ece"]}
    return short


def fits(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Per objective and stage before it: the power law of the error in parameters and examples, where it is defined."""
    found = []
    for objective, stage in dict.fromkeys((row["objective"], row["pretraining"]) for row in rows):
        own = [row for row in rows if (row["objective"], row["pretraining"]) == (objective, stage)]
        error = np.array([error_of(row["accuracy"], row["pairs"]) for row in own])
        quantities = {name: np.array([float(row[name]) for row in own]) for name in ("parameters", "examples")}
        varying = {name: values for name, values in quantities.items() if len(set(values)) > 1}
        try:
            law = power_law(error, **varying).row()
        except ValueError as problem:
            law = {"unknown": str(problem)}
        found.append({"objective": objective, "pretraining": stage, **law})
    return found
