"""One rank of a learner group: a Ray actor with a policy and a learner of its own."""

from __future__ import annotations

import functools
import os
import socket
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor

from launch.config.plugins import build_arm
from launch.config.study import RunConfig
from launch.distributed.run_worker import extract_model
from launch.distributed.thread_dump import dump, other_threads
from launch.distributed.weights import Packed, pack_tensors, unpack_tensors
from launch.errors import UserError
from launch.run.load_policy import load_policy
from launch.run.rng import rng_state, seed_all, set_rng_state
from shaping.learning.learner import Learner
from shaping.learning.parallel import Ranks, RanksError
from shaping.learning.policy import Policy
from shaping.learning.sample import Sample

State = dict[str, Packed]
"""Tensors, as the object store hands them to every process of a node without a copy."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where an actor runs, and what it finds there. `port` is free, for the others to meet it."""

    node: str
    pid: int
    port: int
    has_model: bool

    def __str__(self) -> str:
        return f"node {self.node}, pid {self.pid}"


@dataclass(frozen=True, slots=True)
class RankFailure:
    """An error of a rank as plain data: exceptions of plug-ins need not unpickle elsewhere."""

    kind: str
    told: str
    details: str
    exchange: bool = False
    """Did it fail to exchange numbers with the others? Then it is probably one of them that is lost."""


@dataclass(frozen=True, slots=True)
class RankStatus:
    """What a rank is doing. `waits`: for the others, in an exchange of numbers."""

    thread_dump: str
    waits: bool


def _told(method: Callable[..., Any]) -> Callable[..., Any]:
    """Errors become `RankFailure`, so that the controller hears of them in its own words."""

    @functools.wraps(method)
    def told(*arguments: Any) -> Any:
        try:
            return method(*arguments)
        except Exception as error:  # the controller decides what to do about it
            text = str(error)
            lost = isinstance(error, (dist.DistError, RanksError)) or "/gloo/" in text or "ncclRemoteError" in text
            return RankFailure(type(error).__name__, text, traceback.format_exc(), lost)

    return told


class LearnerWorker:
    """Its methods are called on all ranks together, `stacks` also while another one is at work."""

    def place(self, model: Path) -> Place:
        with socket.socket() as probe:
            probe.bind(("", 0))
            port = int(probe.getsockname()[1])
        return Place(ray.util.get_node_ip_address(), os.getpid(), port, model.exists())

    @_told
    def start(
        self,
        run: RunConfig,
        model: Path,
        shipped: Sequence[Any],
        search_path: Sequence[str],
        environment: Mapping[str, str],
    ) -> None:
        """Meet the others and load the policy. `shipped` refers to the packed model, for nodes that lack it."""
        sys.path += [place for place in search_path if place not in sys.path]
        learners = run.train.learner_group
        torch.set_num_threads(max(1, int(learners.cpus)))
        device = "cuda" if learners.gpus else "cpu"
        if learners.gpus and not torch.cuda.is_available():
            raise UserError("Ray has given it a GPU that this PyTorch cannot use; `shaping doctor` shows why")
        self._ranks = Ranks.connect(learners.strategy, device, timeout=learners.timeout, environment=environment)
        seed_all(run.seed)  # so that rank 0's new adapters are those of a run without ranks
        self._arm = build_arm(run.arm, run.arm_config)
        path = model if model.exists() else extract_model(ray.get(shipped[0]))
        policy = load_policy(run, path, self._arm, self._ranks.device)
        training = self._arm.edits("training")
        self._learner = Learner(
            policy, run.learner, interventions=self._arm.interventions, edits=training, ranks=self._ranks
        )

    @_told
    def update(self, samples: Sequence[Sample], arm: Mapping[str, Any]) -> tuple[dict[str, float], State]:
        """(metrics, trained weights); the latter on rank 0 only. `arm`: what the interventions know by now."""
        if arm:
            self._arm.load_state_dict(arm)
        return self._learner.update(samples), pack_tensors(trained(self._learner.policy))

    @_told
    def values(self, samples: Sequence[Sample]) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
        found = self._learner.values(samples)
        return found if self._ranks.rank == 0 else []

    @_told
    def state(self) -> tuple[State, dict[str, Any], State, dict[str, Any]]:
        """(the learner's tensors, on rank 0 only; its values; the random generators of this rank)."""
        tensors, values = self._learner.state_dict()
        rng, rng_values = rng_state()
        return pack_tensors(tensors), values, pack_tensors(rng), rng_values

    @_told
    def load(self, tensors: State, values: Mapping[str, Any], rng: tuple[State, Mapping[str, Any]]) -> None:
        # copies: the optimiser writes into its moments, and what the object store holds cannot be written to
        self._learner.load_state_dict(
            {name: tensor.clone() for name, tensor in unpack_tensors(tensors).items()}, values
        )
        set_rng_state({name: tensor.clone() for name, tensor in unpack_tensors(rng[0]).items()}, rng[1])

    @ray.method(concurrency_group="watch")
    def thread_dump(self) -> RankStatus:
        """Of all threads. One that waits for other ranks is in `torch.distributed`, innermost."""
        threads = other_threads()
        waits = any("torch/distributed/" in frame.f_code.co_filename for _, frame in threads)
        return RankStatus(dump(threads), waits)


def trained(policy: Policy) -> dict[str, Tensor]:
    """The weights that training may have changed, whole, on rank 0; all ranks must ask. Nothing of a frozen base."""
    state = {f"model.{name}": tensor for name, tensor in policy.model.state_dict().items()}
    if policy.adapters.names("kept"):
        state = {name: tensor for name, tensor in state.items() if ".lora_" in name}
    if policy.value_head is not None:
        state |= {f"value_head.{name}": tensor for name, tensor in policy.value_head.state_dict().items()}
    return policy.ranks.stored(state)


@torch.no_grad()
def take(policy: Policy, weights: Mapping[str, Tensor]) -> None:
    """Write what `trained` gave into a policy of one process."""
    modules = {"model": policy.model} | ({} if policy.value_head is None else {"value_head": policy.value_head})
    own = {f"{prefix}.{name}": t for prefix, module in modules.items() for name, t in module.state_dict().items()}
    for name, tensor in weights.items():
        own[name].copy_(tensor)


#: `stacks` has a thread of its own; what computes always runs in one and the same other thread.
LearnerActor = ray.remote(concurrency_groups={"watch": 1})(LearnerWorker)
