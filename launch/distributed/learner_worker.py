"""One rank of a learner group: a Ray actor with a policy and a learner of its own."""

from __future__ import annotations

import contextlib
import functools
import os
import socket
import sys
import tempfile
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
from safetensors.torch import load_file
from torch import Tensor

from envs.text import message_of
from launch.config.plugins import build_arm
from launch.config.study import RunConfig
from launch.distributed.run_worker import archive, extract_model, marker_of
from launch.distributed.thread_dump import dump, other_threads
from launch.distributed.weights import Form, Packed, PolicyWeights, pack_tensors, unpack_tensors
from launch.errors import UserError
from launch.run.evaluation.eval_plan import EvalPolicy
from launch.run.models.adapters import apart_of, snapshots_of
from launch.run.models.load_policy import load_policy, load_reference
from launch.run.models.trained import mean_logprob, save, undo
from launch.run.rng import rng_state, seed_all, set_rng_state
from launch.storage.checkpoint import save_tensors
from launch.storage.files import disk_errors
from launch.storage.rundir import RunDirectory
from shaping.hooks import Activations
from shaping.learning.learner import Learner
from shaping.learning.policy import Policy
from shaping.learning.ranks.parallel import Ranks, RanksError
from shaping.learning.samples.sample import Sample
from shaping.sockets import listen

State = dict[str, Packed]
"""Packed tensors: all processes of a node read them from the object store without a copy."""


@dataclass(frozen=True, slots=True)
class RankInfo:
    """Location of a rank."""

    node: str
    """IP address of its node."""
    pid: int
    """Its process."""
    has_model: bool
    """Is the model directory on its node?"""

    def __str__(self) -> str:
        return f"node {self.node}, pid {self.pid}"


@dataclass(frozen=True, slots=True)
class RankFailure:
    """An error of a rank as plain data: exceptions of plug-ins need not unpickle elsewhere."""

    kind: str
    """Class of the error."""
    message: str
    """Its text."""
    details: str
    """Its traceback."""
    in_exchange: bool = False
    """Did it fail to exchange numbers with the other ranks? Then probably another rank is lost."""


@dataclass(frozen=True, slots=True)
class RankStatus:
    """Activity of a rank."""

    thread_dump: str
    """Stacks of all its threads."""
    waiting: bool
    """Is it waiting for other ranks, in an exchange of numbers?"""


def _errors_as_data(method: Callable[..., Any]) -> Callable[..., Any]:
    """Let a method return a `RankFailure` instead of raising: Ray would wrap the error, and may fail to unpickle it."""

    @functools.wraps(method)
    def guarded(*arguments: Any) -> Any:
        try:
            return method(*arguments)
        except Exception as error:  # the controller decides what to do about it
            text = message_of(error)
            lost = isinstance(error, (dist.DistError, RanksError)) or "/gloo/" in text or "ncclRemoteError" in text
            return RankFailure(type(error).__name__, text, traceback.format_exc(), lost)

    return guarded


class LearnerWorker:
    """One rank. Its methods are called on all ranks together; `status` also answers while another one runs."""

    _listening: socket.socket | None = None

    def info(self, model: Path) -> RankInfo:
        """Node and process of this rank, and whether it has `model`."""
        return RankInfo(ray.util.get_node_ip_address(), os.getpid(), model.exists())

    @_errors_as_data
    def listen(self, host: str) -> int:
        """Listen for the other ranks on the address `host` alone; empty: another rank does. Returns the port."""
        self._listening = listen(host) if host else None
        return int(self._listening.getsockname()[1]) if self._listening else 0

    @_errors_as_data
    def start(
        self,
        run: RunConfig,
        model: Path,
        shipped: Sequence[Any],
        search_path: Sequence[str],
        environment: Mapping[str, str],
    ) -> tuple[int, Mapping[str, Any]]:
        """Connect to the other ranks and load the policy. Returns its vocabulary, and the state of interventions that
        look at the policy.

        Args:
            run: The run's config.
            model: The model directory.
            shipped: One reference to the packed model, for nodes that lack the directory; empty if all have it.
            search_path: Folders in which the driver finds plug-in modules.
            environment: The variables with which torch.distributed finds the other ranks.
        """
        sys.path += [entry for entry in search_path if entry not in sys.path]
        config = run.train.learner_group
        torch.set_num_threads(max(1, int(config.cpus)))
        device = "cuda" if config.gpus else "cpu"
        if config.gpus and not torch.cuda.is_available():
            raise UserError("Ray assigned a GPU that this PyTorch cannot use; `shaping doctor` shows why")
        self._ranks = Ranks.connect(
            config.strategy, device, timeout=config.timeout, environment=environment, listening=self._listening
        )
        seed_all(run.seed)  # rank 0's new adapters equal those of a run without ranks
        self._arm = build_arm(run.arm, run.arm_config, run.isolation, run.learner.ratio, run.seats)
        path = model if model.exists() else extract_model(ray.get(shipped[0]))
        sharded = config.strategy == "fsdp" and config.ranks > 1
        policy = load_policy(run, path, self._arm, self._ranks.device, unread=sharded)
        self._learner = Learner(
            policy,
            run.learner,
            interventions=self._arm.interventions,
            edits=lambda: self._arm.edits("training"),
            updates=run.train.updates,
            seed=run.seed,
            ranks=self._ranks,
            apart=apart_of(self._arm),
            snapshots=snapshots_of(run),
            start=load_reference(run, path, policy) if sharded else None,
        )
        self._told: list[str] = []
        self._weights = PolicyWeights(run, policy, path, self._told.append)
        self._learner.refresh()
        return len(policy.model.get_output_embeddings().weight), self._arm.state_dict() if self._arm.looks else {}

    @_errors_as_data
    def update(
        self, samples: Sequence[Sample], arm: Mapping[str, Any], copied: bool
    ) -> tuple[dict[str, float], State, Mapping[str, Activations], Mapping[str, Any]]:
        """Train on `samples`. `arm` is the state of the interventions.

        Returns:
            Metrics, if they are `copied` the trained weights, the captured states (both on rank 0 only), and the state
            of the interventions, which may have looked at the policy.
        """
        if arm:
            self._arm.load_state_dict(arm)
        metrics = self._learner.update(samples)
        activations = self._learner.activations if self._ranks.rank == 0 else {}
        weights = pack_tensors(self._learner.policy.state_dict()) if copied else {}
        return metrics, weights, activations, self._arm.state_dict() if self._arm.looks else {}

    @ray.method(num_returns=2)
    def weights(self, form: Form, policy: EvalPolicy) -> tuple[list[str] | RankFailure, State]:
        """What is to be told, and the weights for samplers (on rank 0 only), which stay in the object store."""

        def sent() -> tuple[list[str], State]:
            tensors = self._weights.send(form, policy).tensors or {}
            told, self._told[:] = list(self._told), []
            return told, pack_tensors(tensors) if self._ranks.rank == 0 else {}

        answer: tuple[list[str], State] | RankFailure = _errors_as_data(sent)()
        return (answer, {}) if isinstance(answer, RankFailure) else answer

    @_errors_as_data
    def checksum(self, form: Form, policy: EvalPolicy, dtype: torch.dtype | None) -> str:
        """The checksum of these weights; it holds on rank 0 only."""
        return self._weights.checksum(form, policy, dtype)

    @_errors_as_data
    def mean_logprob(self, samples: Sequence[Sample], edited: bool, arm: Mapping[str, Any]) -> float:
        """As `launch.run.models.trained.TrainedPolicy.mean_logprob`. `arm` is the state of the interventions."""
        if arm:
            self._arm.load_state_dict(arm)
        return mean_logprob(self._learner.policy, samples, self._arm, edited=edited)

    @_errors_as_data
    def undo(self, arm: Mapping[str, Any]) -> None:
        """As `launch.run.models.trained.TrainedPolicy.undo`. `arm` is the state of the interventions."""
        if arm:
            self._arm.load_state_dict(arm)
        undo(self._learner.policy, self._arm)

    @_errors_as_data
    def save(self, directory: Path, marker: tuple[Path, str]) -> bytes:
        """As `launch.run.models.trained.TrainedPolicy.save`: rank 0 writes.

        `marker`: a file of the run directory and its digest. If rank 0 cannot read it, it shares no disk with the
        controller, and returns what it would have written as a tar file.
        """
        local = self._ranks.rank > 0 or marker_of(marker[0]) == marker
        with contextlib.ExitStack() as stack:
            home = directory if local else Path(stack.enter_context(tempfile.TemporaryDirectory()))
            with disk_errors(home):
                save(self._learner.policy, RunDirectory(home))
            return b"" if local else archive(home)

    @_errors_as_data
    def values(
        self, samples: Sequence[Sample], arm: Mapping[str, Any]
    ) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
        """The critic's values, on rank 0 only. `arm` is the state of the interventions."""
        if arm:
            self._arm.load_state_dict(arm)
        values = self._learner.values(samples)
        return values if self._ranks.rank == 0 else []

    @_errors_as_data
    def logprobs(self, samples: Sequence[Sample], arm: Mapping[str, Any]) -> list[float]:
        """As `Learner.logprobs`, on rank 0 only. `arm` is the state of the interventions."""
        if arm:
            self._arm.load_state_dict(arm)
        sums = self._learner.logprobs(samples)
        return sums if self._ranks.rank == 0 else []

    @_errors_as_data
    def state(self, file: Path, marker: tuple[Path, str]) -> tuple[bytes, dict[str, Any], State, dict[str, Any]]:
        """Write the learner's tensors (rank 0 does); its values, and the random generators of this rank.

        `marker`: as in `save`. Rank 0 returns what it would have written, as a tar file, if it shares no disk.
        """
        tensors, values = self._learner.state_dict()
        rng, rng_values = rng_state()
        packed = self._written(file, tensors, marker) if self._ranks.rank == 0 else b""
        return packed, values, pack_tensors(rng), rng_values

    def _written(self, file: Path, tensors: Mapping[str, Tensor], marker: tuple[Path, str]) -> bytes:
        with contextlib.ExitStack() as stack:
            local = marker_of(marker[0]) == marker
            home = file.parent if local else Path(stack.enter_context(tempfile.TemporaryDirectory()))
            with disk_errors(home):
                save_tensors(home / file.name, tensors)
            return b"" if local else archive(home)

    @_errors_as_data
    def sees(self, marker: tuple[Path, str]) -> bool:
        """Does this rank share the controller's disk?"""
        return marker_of(marker[0]) == marker

    @_errors_as_data
    def load(self, source: Path | State, values: Mapping[str, Any], rng: tuple[State, Mapping[str, Any]]) -> None:
        """Restore what `state` wrote, from its file or from its tensors."""
        # Cloned: the optimiser writes into its moments, and memory of the object store is read-only.
        tensors = (
            load_file(source)
            if isinstance(source, Path)
            else {name: tensor.clone() for name, tensor in unpack_tensors(source).items()}
        )
        self._learner.load_state_dict(tensors, values)
        set_rng_state({name: tensor.clone() for name, tensor in unpack_tensors(rng[0]).items()}, rng[1])

    @ray.method(concurrency_group="watch")
    def status(self) -> RankStatus:
        """Stacks of all threads. A thread that waits for other ranks has `torch.distributed` as its innermost frame."""
        threads = other_threads()
        waiting = any("torch/distributed/" in frame.f_code.co_filename for _, frame in threads)
        return RankStatus(dump(threads), waiting)


@torch.no_grad()
def load_trained_weights(policy: Policy, weights: Mapping[str, Tensor]) -> None:
    """Copy the state of a policy on several ranks into a policy of one process."""
    modules = {"model": policy.model} | ({} if policy.value_head is None else {"value_head": policy.value_head})
    targets = {f"{prefix}.{name}": t for prefix, module in modules.items() for name, t in module.state_dict().items()}
    for name, tensor in weights.items():
        targets[name].copy_(tensor)


LearnerActor = ray.remote(concurrency_groups={"watch": 1})(LearnerWorker)
"""`status` has a thread of its own. All other methods run in one other thread, always the same."""
