"""The learner group: several ranks, in Ray actors, that train one policy as one learner would."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import ray
from numpy.typing import NDArray
from torch import Tensor

from launch.config.study import RunConfig
from launch.distributed.actor_group import ActorGroup
from launch.distributed.learner_worker import LearnerActor, Place, take
from launch.distributed.placement import rank_placements
from launch.distributed.run_worker import archive as archive_model
from launch.distributed.weights import pack_tensors, unpack_tensors
from launch.storage.resume import say
from shaping.arm import Arm
from shaping.learning.policy import Policy
from shaping.learning.sample import Sample

START = 600.0
"""Seconds within which an actor must be up, its imports done."""


class LearnerGroup:
    """A `Learner` to whoever uses it. `policy`, of this process, takes over the trained weights after every update.

    Raises `RankLost` where a rank dies, hangs or cannot be reached, and what a rank raises (`LearnerError`,
    `PolicyError`) with its name. Either way the group is of no more use, and is closed.
    """

    def __init__(
        self, run: RunConfig, model: Path, policy: Policy, arm: Arm, tell: Callable[[str], None] = say
    ) -> None:
        self.policy = policy
        self.version = 0
        self._arm, self._config = arm, run.train.learner_group
        self._held = contextlib.ExitStack()
        try:
            self._group = self._gather(run, model, tell)
        except BaseException:
            self.close()
            raise

    def update(self, samples: Sequence[Sample]) -> dict[str, float]:
        """As `Learner.update`. The samples go into the object store once, and every rank reads them there."""
        if not samples:
            return {}
        metrics, weights = self._ask("update", ray.put(list(samples)), self._arm.state_dict())[0]
        take(self.policy, unpack_tensors(weights))
        self.version += 1
        return dict(metrics)

    def values(self, samples: Sequence[Sample]) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
        """As `Learner.values`."""
        return list(self._ask("values", ray.put(list(samples)))[0])

    def state_dict(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """As `Learner.state_dict`, with the random generators of every rank."""
        found = self._ask("state")
        learner, values, _, _ = found[0]
        tensors = {f"learner.{name}": tensor for name, tensor in unpack_tensors(learner).items()}
        for rank, (_, _, rng, _) in enumerate(found):
            tensors |= {f"rng-{rank}.{name}": tensor for name, tensor in unpack_tensors(rng).items()}
        return tensors, {**values, "rng": [rng for *_, rng in found]}

    def load_state_dict(self, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
        learner = _under("learner.", tensors)
        rngs = [(pack_tensors(_under(f"rng-{rank}.", tensors)), rng) for rank, rng in enumerate(values["rng"])]
        self._ask("load", ray.put(pack_tensors(learner)), dict(values), each=rngs)
        self.policy.load_state_dict(_under("policy.", learner))
        self.version = int(values["version"])

    def close(self) -> None:
        """End the ranks, and give back what was reserved for them."""
        self._held.close()

    def _ask(self, stage: str, *alike: Any, each: Sequence[Any] = ()) -> list[Any]:
        try:
            return self._group.ask(stage, *alike, each=each, timeout=self._config.timeout)
        except BaseException:  # also an interrupt: the ranks are in the middle of something
            self.close()
            raise

    def _gather(self, run: RunConfig, model: Path, tell: Callable[[str], None]) -> ActorGroup:
        """Reserve room, start the actors, let them meet and load the policy."""
        config = self._config
        if not ray.is_initialized():
            from launch.distributed.local import RaySettings, running_ray

            self._held.enter_context(running_ray(RaySettings()))
        placements = self._held.enter_context(rank_placements(run, tell))
        needs = {"num_cpus": config.cpus, "num_gpus": config.gpus}
        group = ActorGroup(
            [LearnerActor.options(**needs, scheduling_strategy=placement).remote() for placement in placements], tell
        )
        self._held.callback(group.kill)
        places: list[Place] = group.ask("place", model, timeout=START)
        group.places = places
        shipped = [] if all(place.has_model for place in places) else [ray.put(archive_model(model))]
        meeting = {"MASTER_ADDR": places[0].node, "MASTER_PORT": str(places[0].port), "WORLD_SIZE": str(config.ranks)}
        search_path = (os.getcwd(), *(place for place in sys.path if place))
        # Ray shows a process its own GPU alone: whatever the rank, it is the first there
        own = [{**meeting, "RANK": str(rank), "LOCAL_RANK": "0"} for rank in range(config.ranks)]
        group.ask("start", run, model, shipped, search_path, each=own, timeout=config.timeout)
        return group


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
