"""The updates of a stage on rows. `launch.train` calls one in the place of an update of reinforcement learning."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from envs.episode import Episode
from launch.config.plugins import build_splitter
from launch.config.stages import PreferenceStage, SupervisedStage
from launch.config.study import RunConfig
from launch.run.finetuning.data import pairs_of, rows_of
from launch.run.finetuning.stage_runs import stage_of
from launch.run.timing import timed
from launch.run.trainer import Trainer
from launch.train import Updated, update
from shaping.audits.row import Row as Columns
from shaping.finetuning.episodes import batch_numbers, contexts_of, episode_of
from shaping.finetuning.rows import Pair, Row
from shaping.finetuning.samples import Array, Preferences, imitated, scaled, weighted
from shaping.hooks import Group, UpdateReport
from shaping.learning.samples.rehearsals import rehearsed
from shaping.learning.samples.sample import Sample
from shaping.readings import readings
from shaping.sampling.text.split import Splitter, behind

Step = Callable[[Trainer, int], Updated]


def step_of(trainer: Trainer) -> Step:
    """What an update of the run's stage is. Call it while the policy is what the stage starts from."""
    run, stage = trainer.run, stage_of(trainer.run)
    if not isinstance(stage, SupervisedStage | PreferenceStage):
        return update
    split = behind(build_splitter(run.rollout.splitter), trainer.renderer.opened)
    if isinstance(stage, SupervisedStage):
        return _Supervised(run, rows_of(run, stage), stage, split)
    pairs = pairs_of(stage)
    made = _Preference(run, pairs, stage, split)
    made.reference = made.logprobs(trainer, range(len(pairs)))
    return made


@dataclass
class _Supervised:
    """Updates of a supervised stage: cross-entropy of the answers under the arm's training contexts."""

    run: RunConfig
    rows: Sequence[Row]
    stage: SupervisedStage
    splitter: Splitter

    def __call__(self, trainer: Trainer, number: int) -> Updated:
        seconds: dict[str, float] = {}
        arm, renderer = trainer.arm, trainer.renderer
        with timed(seconds, "credit"):
            chosen = batch_numbers(len(self.rows), self.stage.batch_size, number, self.run.seed)
            episodes = [
                _episode(trainer, self.rows[row], place, number, self.splitter) for place, row in enumerate(chosen)
            ]
            samples = scaled([s for own in imitated(episodes, arm, renderer) for s in own], self.stage.weight)
            samples += rehearsed(arm.interventions, episodes, renderer)
        return _learned(trainer, number, episodes, samples, {"rows": len(chosen)}, seconds, "supervised")


@dataclass
class _Preference:
    """Updates of a preference stage: DPO of pairs, each under one training context for the whole stage."""

    run: RunConfig
    pairs: Sequence[Pair]
    stage: PreferenceStage
    splitter: Splitter
    reference: Array | None = None
    """Log-probs of (chosen, rejected) at the start of the stage [pairs, 2]."""

    def __call__(self, trainer: Trainer, number: int) -> Updated:
        assert self.reference is not None
        seconds: dict[str, float] = {}
        with timed(seconds, "credit"):
            chosen = batch_numbers(len(self.pairs), self.stage.batch_size, number, self.run.seed)
            now = self.logprobs(trainer, chosen)
            found = Preferences.of(now, self.reference[chosen], self.stage.beta)
            answers = self._answers(trainer, chosen)
            episodes = [episode for episode, _ in answers]
            samples = weighted([own for _, own in answers], found.weights().ravel())
        columns = {
            "rows": len(chosen),
            "dpo_loss": found.loss,
            "dpo_accuracy": found.accuracy,
            "dpo_margin": float(found.margin.mean()),
        }
        return _learned(trainer, number, episodes, samples, columns, seconds, "preference")

    def logprobs(self, trainer: Trainer, chosen: Sequence[int]) -> Array:
        """Summed log-probs of (chosen, rejected) answers under the policy as it is, shape [len(chosen), 2]."""
        found = np.zeros((len(chosen), 2))
        step = 256  # so that a large file is never held as samples all at once
        for start in range(0, len(chosen), step):
            answers = self._answers(trainer, chosen[start : start + step])
            flat = [sample for _, own in answers for sample in own]
            sums = iter(trainer.learner.logprobs(flat))
            each = [sum(next(sums) for _ in own) for _, own in answers]
            found[start : start + step] = np.array(each).reshape(-1, 2)
        return found

    def _answers(self, trainer: Trainer, chosen: Sequence[int]) -> list[tuple[Episode, list[Sample]]]:
        """(episode, samples) of the chosen and the rejected answer of each pair, in turn."""
        episodes = [
            _episode(trainer, row, number, 0, self.splitter)
            for number in chosen
            for row in (self.pairs[number].chosen, self.pairs[number].rejected)
        ]
        made = imitated(episodes, trainer.arm, trainer.renderer, gated=False)
        return list(zip(episodes, made, strict=True))


def _episode(trainer: Trainer, row: Row, number: int, update_number: int, splitter: Splitter) -> Episode:
    run = trainer.run
    contexts = contexts_of(row, trainer.arm, number=number, update=update_number, seed=run.seed, prose=run.prose)
    version = trainer.learner.version
    return episode_of(row, contexts, trainer.renderer, splitter, group=number, arm=run.arm, version=version)


def _learned(
    trainer: Trainer,
    number: int,
    episodes: list[Episode],
    samples: Sequence[Sample],
    columns: Mapping[str, Any],
    seconds: dict[str, float],
    phase: str,
) -> Updated:
    """Learn from samples, let interventions adapt, and make the update's row."""
    arm = trainer.arm
    with timed(seconds, "learn"):
        learned = trainer.learner.update(samples)
    if phase == "preference":  # whose weights have both signs, so that their mean says nothing
        learned.pop("imitation", None)
    with timed(seconds, "adapt"):
        told = readings(arm.interventions, episodes, arm.concerns)
        nothing = np.zeros(1)
        groups = tuple(Group((episode,), nothing, nothing) for episode in episodes)
        arm.after_update(UpdateReport(number, groups, learned, trainer.learner.activations))
    with timed(seconds, "sync"):
        if number >= trainer.run.train.updates - max(1, trainer.run.eval.average_last):  # nobody samples before
            trainer.sync()
    row = Columns("the trainer", {"phase": phase, "update": number, **columns})
    row.add("the learner", learned)
    row.add("readings()", told)
    return Updated(number, row, episodes, seconds)
