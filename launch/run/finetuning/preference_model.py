"""A run that trains a preference model: no policy, no episodes, and the model as its checkpoint."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from launch.config.study import RunConfig
from launch.config.world_names import trained_worlds
from launch.errors import ConfigError
from launch.preference.settings import Pretraining
from launch.preference.stage import HELD_OUT_SEED, PreferenceModelStage, preference_stage
from launch.run.device import own_device
from launch.run.finetuning.data import check_data
from launch.run.models.origin import origin
from launch.run.timing import of_run, timed
from launch.storage.files import disk_errors
from launch.storage.resume import log_to_stderr
from launch.storage.rundir import RunDirectory
from launch.storage.versions import versions
from rewards.preference.calibration import evaluate
from rewards.preference.data import Examples, PreferenceError, checked
from rewards.preference.model import Scorer, save
from rewards.preference.train import PreferenceTraining, Trained, train
from shaping.audits.training.preference_model import preference_metrics
from shaping.organisms.corpus.comparisons import Comparisons, comparisons

OnUpdate = Callable[[int, dict[str, Any]], None]
PHASE, BEFORE = "preference_model", "preference_pretraining"
"""Values of `phase` in metrics.jsonl: of the training, and of the stage before it."""


def train_preference_model(run: RunConfig, model: Path, directory: RunDirectory, on_update: OnUpdate) -> dict[str, Any]:
    """Train and measure the preference model of one run, from its start: nothing of a killed one is gone on with.

    Returns the result, as in result.json. `directory.checkpoint` is then a model for `reward: {use: PreferenceModel}`.
    Raises: `ConfigError` that names the stage.
    """
    stage = preference_stage(run.stages)
    assert stage is not None, "the run is of this kind"
    check_data(run)
    if directory.status() == "changed":
        log_to_stderr(directory.set_aside(directory.damage(weights=True)))
    directory.create(run.recorded, versions(), **origin(run, model))
    started, used = time.monotonic(), time.process_time()
    seconds: dict[str, float] = {}
    try:
        with own_device(run) as device:
            examples, held_out = examples_of(stage, run.seed), held_out_of(stage)
            if shared := set(examples.situations) & set(held_out.situations):
                raise PreferenceError(f"{len(shared)} situations are held out and trained on: set another seed")
            made = _Training(stage, run.seed, device, directory, on_update)
            trained = made.run(model, examples, held_out)
            with timed(seconds, "evaluate"):
                measured = evaluate(trained.scorer, held_out)
    except PreferenceError as error:
        raise ConfigError(f"stages.{stage.kind}: {error}") from error
    card = trained.card(examples, {"stage": stage.model_dump(mode="json"), "seed": run.seed, "held_out": measured})
    with disk_errors(directory.path):
        save(directory.weights("checkpoint"), trained.scorer, card)
    directory.evaluation([])
    result = _result(run, stage, made.rows, trained, measured)
    took = of_run(time.monotonic() - started, time.process_time() - used, seconds)
    directory.timings({"phase": "run", "first_update": 0, **took})
    directory.finish(result)
    return result


def examples_of(stage: PreferenceModelStage, seed: int) -> Examples:
    """What replicate `seed` is trained on."""
    found = comparisons(_of_replicate(stage.comparisons, seed))
    if stage.control == "random_labels":
        coin = random.Random(f"random labels|{seed}")
        pairs = (replace(p, better=p.worse, worse=p.better) if coin.random() < 0.5 else p for p in found.pairs)
        found = Examples(tuple(replace(pair, margin=0.0) for pair in pairs))
    return checked(found, "comparisons")


def held_out_of(stage: PreferenceModelStage) -> Examples:
    """What models of these comparisons are measured on, in every run: with true labels."""
    fixed = {"pairs": stage.held_out, "seed": HELD_OUT_SEED, "flipped": 0.0}
    return checked(comparisons(stage.comparisons.model_copy(update=fixed)), "held_out")


def _of_replicate(settings: Comparisons, seed: int) -> Comparisons:
    return settings.model_copy(update={"seed": settings.seed + seed})


def _before(pretraining: Pretraining, seed: int) -> Examples:
    """The examples of the stage before it: files as they are, comparisons of this replicate."""
    own = pretraining.data.comparisons
    update = {"comparisons": None if own is None else _of_replicate(own, seed)}
    return checked(pretraining.data.model_copy(update=update).read(), "pretraining.data")


@dataclass
class _Training:
    """The training of one model. Every optimiser step is a row of metrics.jsonl."""

    stage: PreferenceModelStage
    seed: int
    device: str
    directory: RunDirectory
    on_update: OnUpdate
    rows: int = field(default=0, init=False)

    def run(self, model: Path, examples: Examples, held_out: Examples) -> Trained:
        """Train on `examples`, after the stage before if there is one. Raises: `PreferenceError`."""
        start: Path | Scorer = model
        if (stage := self.stage.pretraining) is not None:
            before = _before(stage, self.seed)
            if shared := set(before.situations) & set(held_out.situations):
                raise PreferenceError(
                    f"pretraining.data holds {len(shared)} of the held-out situations: leave them out"
                )
            start = self._train(start, before, stage.training, BEFORE).scorer
        return self._train(start, examples, self.stage.training, PHASE)

    def _train(self, start: Path | Scorer, examples: Examples, settings: PreferenceTraining, phase: str) -> Trained:
        def on_step(_: int, loss: float, rate: float) -> None:
            number, row = self.rows, {"phase": phase, "update": self.rows, "loss": loss, "lr": rate}
            self.directory.metrics(row)
            self.rows += 1
            self.on_update(number, row)

        own = settings.model_copy(update={"seed": settings.seed + self.seed})
        return train(start, examples, own, self.stage.reads, log_to_stderr, device=self.device, on_step=on_step)


def _result(
    run: RunConfig, stage: PreferenceModelStage, steps: int, trained: Trained, measured: dict[str, Any]
) -> dict[str, Any]:
    """All that other runs have in result.json, and `preference_model`: what it is, and what was measured."""
    size = sum(parameter.numel() for parameter in trained.scorer.model.parameters())
    said = "a fair coin" if stage.control == "random_labels" else "the ground truth"
    made = {
        "objective": stage.training.objective,
        "pretraining": stage.pretraining.training.objective if stage.pretraining else "none",
        "control": stage.control,
        "parameters": size,
        "examples": stage.comparisons.pairs,
        "trained_on": trained.examples,
        "left_out": trained.left_out,
        "train_loss": trained.loss,
    }
    return {
        "arm": run.arm,
        "label": run.arm_config.label or run.arm,
        "role": run.arm_config.role,
        "family": "unshaped" if run.arm_config.role == "reference" else "control",
        "sweep_point": run.sweep_point,
        "seed": run.seed,
        "subject": run.subject,
        "updates": steps,
        "stopped_early": False,
        "trained_worlds": trained_worlds(run),
        "spent_monitors": [],
        "monitors": {},
        "alarms": {},
        "oracle": False,
        "labels": [f"PreferenceModel: {said} says which of two answers is better"],
        "interventions": [],
        "untested": [],
        "summary": preference_metrics(measured, size),
        "pressure": {},
        "seats": [],
        "attrition": {"episodes": 0, "evaluation": []},
        "preference_model": made | {"measured": measured},
    }
