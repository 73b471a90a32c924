"""The state of a run while it trains: its parts, and the values of them that a checkpoint holds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

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
    """What trains the policy."""

    version: int
    """Number of updates that the policy has had."""
    activations: Mapping[str, Activations]
    """Means per turn of the captured states of the last update."""

    def update(self, samples: Sequence[Sample]) -> dict[str, float]: ...

    def values(self, samples: Sequence[Sample]) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]: ...

    def logprobs(self, samples: Sequence[Sample]) -> list[float]: ...


class LearnsHere(Learns, Protocol):
    """One in this process: a `Learner`."""

    def state_dict(self) -> tuple[dict[str, Tensor], dict[str, Any]]: ...

    def load_state_dict(self, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None: ...


@runtime_checkable
class LearnsElsewhere(Learns, Protocol):
    """One whose weights are in other processes, as a `LearnerGroup`'s are. They may be too large for this one."""

    def state_in(self, folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]: ...

    def restore(self, tensors: Mapping[str, Tensor], values: Mapping[str, Any], folder: Path) -> None: ...


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
    learner: LearnsHere | LearnsElsewhere
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

    def state_in(self, folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Everything that the next update depends on: tensors, JSON-serialisable values, and files in the folder."""
        if isinstance(self.learner, LearnsElsewhere):
            learner, learner_values = self.learner.state_in(folder)
        else:
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

    def restore(self, tensors: Mapping[str, Tensor], values: Mapping[str, Any], folder: Path) -> None:
        """Go back to what `state_in` returned and wrote."""
        if isinstance(self.learner, LearnsElsewhere):
            self.learner.restore(_under("learner/", tensors), values["learner"], folder)
        else:
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
