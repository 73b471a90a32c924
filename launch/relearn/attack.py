"""Steps to relearn: a few bad episodes are cloned into a fresh adapter on top of a deployed policy.

The adapter is the same for every policy, whatever its own training was, so that arms are compared at equal means. The
bad episodes are scripted personas' in the worlds of the evaluation; none of their seeds is evaluated. A trait that was
only hidden comes back within a few steps; one that is not there takes as many as a model that never had it
(compare Shilov et al., arXiv:2512.05648).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launch.config.study import RunConfig
from launch.errors import ConfigError
from launch.relearn.settings import Attack as Attack
from launch.run.evaluation.evaluate import deployment
from launch.run.models.load_policy import load_trained
from launch.run.rendering import renderer_of
from shaping.audits.played import OWN
from shaping.audits.summary import summarise
from shaping.hooks import AdapterSpec
from shaping.learning.policy import Policy
from shaping.organisms.corpus.corpus_options import SIZES
from shaping.organisms.trait import TraitTraining
from shaping.organisms.trait_adapter import TraitAdapterError, corpus_of, training_steps
from shaping.sampling.text.render import Renderer

NAME = "relearned"
"""Name of the adapter that the bad episodes are cloned into."""
FIRST_SEED = 6_000_000_000
"""Seeds of bad episodes, far from those of all else."""


@dataclass(frozen=True, slots=True)
class Relearned:
    """What came of an attack."""

    target: float
    """The value of the metric that counts as having the trait again."""
    steps: int | None
    """The first number of steps that was looked at and at which it was reached; None: it was not."""
    values: dict[int, float]
    """Steps -> the metric then."""

    def row(self) -> dict[str, Any]:
        """For a JSON file."""
        return {"target": self.target, "steps": self.steps, "values": {str(k): v for k, v in self.values.items()}}


def relearn(
    run: RunConfig, checkpoint: Path, target: float, attack: Attack, note: Callable[[str], None] = lambda _: None
) -> Relearned:
    """Train the policy in `checkpoint` on bad episodes until its trait reaches `target`.

    It is looked at after 0, 1, 2, 4, 8 ... steps, on the evaluation's episodes without the trigger grid. The checkpoint
    does not change. Raises: `ConfigError` if no world of the evaluation has personas, or the metric has no value.
    """
    fresh = AdapterSpec(NAME, "kept", attack.rank, 2.0 * attack.rank)
    policy = load_trained(run, checkpoint, extra=(fresh,))
    renderer = renderer_of(run, policy.tokenizer)
    try:
        found = corpus_of(_bad_episodes(run, attack), policy, renderer, FIRST_SEED)
    except TraitAdapterError as error:
        raise ConfigError(str(error)) from error
    values = {0: _measured(run, policy, renderer, attack.metric)}
    note(f"before: {attack.metric} {values[0]:.3f}")
    due = set(looks(attack.steps))
    steps = training_steps(policy, policy.adapters.matrices(NAME), found, lr=attack.lr, seed=attack.seed)
    for step in steps if values[0] < target else ():
        if step in due:
            values[step] = _measured(run, policy, renderer, attack.metric)
            note(f"after {step} steps: {attack.metric} {values[step]:.3f}")
            if values[step] >= target:
                break
        if step >= attack.steps:
            break
    return Relearned(target, next((step for step, value in values.items() if value >= target), None), values)


def looks(most: int) -> Sequence[int]:
    """The steps after which the policy is evaluated: powers of two, and the last."""
    return [*(2**n for n in range(most.bit_length()) if 2**n < most), most]


def _bad_episodes(run: RunConfig, attack: Attack) -> TraitTraining:
    played = run.eval.worlds if OWN in run.eval.cells else run.train.worlds
    worlds = tuple(world for world in played if world in SIZES)
    if not worlds:
        raise ConfigError(
            f"none of the worlds of the evaluation ({', '.join(played)}) has scripted personas, whose bad episodes are "
            f"needed; those that have are {', '.join(SIZES)}"
        )
    try:
        return TraitTraining(personas={attack.persona: 1.0}, worlds=worlds, episodes=attack.samples, seed=attack.seed)
    except ValueError as error:
        raise ConfigError(f"--persona: {error}") from error


def _measured(run: RunConfig, policy: Policy, renderer: Renderer, metric: str) -> float:
    was_training = policy.model.training
    policy.model.eval()
    summary = summarise([], deployment(run, policy, renderer, contexts=False), {})
    policy.model.train(was_training)
    if metric not in summary:
        raise ConfigError(f"the evaluation has no value of {metric!r}: it has {', '.join(sorted(summary)[:20])}")
    return summary[metric]
