"""The state of a run while it trains: its parts, and the values of them that a checkpoint holds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from launch.config.study import RunConfig
from launch.run.evaluation.monitors import TrainingMonitors
from launch.run.ledger import Ledger
from launch.run.rng import rng_state, set_rng_state
from launch.run.rollouts import Rollouts, RolloutScheduler
from rewards.base import Reward
from shaping.arm import Arm
from shaping.hooks import Activations
from shaping.learning.samples.sample import Sample
from shaping.sampling.text.render import Renderer


class Learns(Protocol):
    """A `Learner`, or a `LearnerGroup`, which has its interface."""

    version: int
    """Number of updates that the policy has had."""
    activations: Mapping[str, Activations]
    """Means per turn of the captured states of the last update."""

    def update(self, samples: Sequence[Sample]) -> dict[str, float]: ...

    def values(self, samples: Sequence[Sample]) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]: ...

    def logprobs(self, samples: Sequence[Sample]) -> list[float]: ...

    def state_dict(self) -> tuple[dict[str, Tensor], dict[str, Any]]: ...

    def load_state_dict(self, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None: ...


@dataclass(eq=False)
class Trainer:
    """What the loop (`launch.train`) works with. `launch.run.build` makes it."""

    run: RunConfig
    """The resolved config of the run."""
    arm: Arm
    """The interventions."""
    reward: Reward
    """What pays."""
    renderer: Renderer
    """From text to the policy's tokens."""
    learner: Learns
    """What trains the policy."""
    rollouts: Rollouts
    """What plays episodes with the policy's weights."""
    scheduler: RolloutScheduler
    """Which groups are played when."""
    monitors: TrainingMonitors
    """What reads the training episodes."""
    ledger: Ledger = field(default_factory=Ledger)
    """What became of every episode."""
    synced: bool = False
    """Have the rollouts been given any weights?"""

    def sync(self) -> None:
        """Sample with the learner's weights as they are now."""
        self.rollouts.sync(self.learner.version)
        self.synced = True

    def stop_early(self, updates: int) -> None:
        """No update follows the `updates` that are done: wait for what is still being played."""
        self.ledger.stopped_after = updates
        self.ledger.leave(self.scheduler.drain())

    def check_ledger(self) -> None:
        """All updates are done: every episode that was started must be accounted for."""
        self.ledger.check(self.scheduler.under_way)

    def state_dict(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """(tensors, JSON-serialisable values): everything that the next update depends on."""
        learner, learner_values = self.learner.state_dict()
        rng, rng_values = rng_state()
        tensors = {f"learner/{name}": t for name, t in learner.items()} | {f"rng/{name}": t for name, t in rng.items()}
        return tensors, {
            "learner": learner_values,
            "rng": rng_values,
            "ledger": self.ledger.as_dict(),
            "arm": self.arm.state_dict(),
            "monitors": self.monitors.state_dict(),
            "scheduler": self.scheduler.state_dict(),
        }

    def load_state_dict(self, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
        self.learner.load_state_dict(_under("learner/", tensors), values["learner"])
        self.arm.load_state_dict(values["arm"])
        self.monitors.load_state_dict(values.get("monitors", {}))
        self.ledger = Ledger(**values["ledger"] | {"status": Counter(values["ledger"]["status"])})
        set_rng_state(_under("rng/", tensors), values["rng"])
        self.sync()
        # last: groups that were under way are played again from here on, with everything above
        self.scheduler.load_state_dict(values["scheduler"])


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
