"""The learner group: several ranks, in Ray actors, that train one policy as one learner would."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import ray
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from launch.config.study import RunConfig
from launch.distributed.actor_group import ActorGroup
from launch.distributed.learner_worker import LearnerActor, RankInfo, load_trained_weights
from launch.distributed.local import joined_ray
from launch.distributed.placement import rank_placements
from launch.distributed.run_worker import archive_model, extract, marker_of
from launch.distributed.weights import Form, Sent, pack_tensors, unpack_tensors
from launch.run.evaluation.eval_plan import EvalPolicy
from launch.storage.checkpoint import DOCUMENT
from launch.storage.files import disk_errors, remove, write_text
from launch.storage.resume import log_to_stderr
from launch.storage.rundir import RunDirectory
from shaping.arm import Arm
from shaping.hooks import Activations
from shaping.learning.policy import Policy
from shaping.learning.samples.sample import Sample
from shaping.sockets import LOOPBACK

STATE = "learner.safetensors"
"""Weights, optimiser moments and critic of a training state."""
START_TIMEOUT = 600.0
"""Seconds within which an actor must have started and finished its imports."""


class LearnerGroup:
    """Trains as `Learner` does. After every update the trained weights are copied into `policy`, of this process.

    Without a `policy`, weights stay on the ranks: it is then the `WeightSource` of the samplers and the
    `TrainedPolicy` of the run, and no tensor of it is in the memory of this process.

    Raises `RankLost` if a rank dies, hangs or cannot be reached. Errors of a rank (`LearnerError`, `PolicyError`) are
    raised with its name. Either way the group is closed and cannot be used again.
    """

    def __init__(
        self, run: RunConfig, model: Path, policy: Policy | None, arm: Arm, log: Callable[[str], None] = log_to_stderr
    ) -> None:
        self.policy = policy
        self.version = self.vocabulary = 0
        self.activations: Mapping[str, Activations] = {}
        self._log = log
        self._arm, self._config = arm, run.train.learner_group
        self._resources = contextlib.ExitStack()
        try:
            self._group = self._start_ranks(run, model, log)
        except BaseException:
            self.close()
            raise

    def update(self, samples: Sequence[Sample]) -> dict[str, float]:
        """As `Learner.update`. The samples go into the object store once, and every rank reads them there."""
        self.activations = {}
        if not samples:
            return {}
        copied = self.policy is not None
        answers = self._call("update", ray.put(list(samples)), self._arm.state_dict(), copied)
        metrics, weights, self.activations, state = answers[0]
        if self._arm.looks:
            self._arm.load_state_dict(state)
        if self.policy is not None:
            load_trained_weights(self.policy, unpack_tensors(weights))
        self.version += 1
        return dict(metrics)

    def values(self, samples: Sequence[Sample]) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
        """As `Learner.values`."""
        return list(self._call("values", ray.put(list(samples)), self._arm.state_dict())[0])

    def logprobs(self, samples: Sequence[Sample]) -> list[float]:
        """As `Learner.logprobs`."""
        return list(self._call("logprobs", ray.put(list(samples)), self._arm.state_dict())[0])

    def state_in(self, folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """As `Learner.state_dict`, with the random generators of every rank. Rank 0 writes the learner's tensors.

        They do not pass through this process, unless rank 0 shares no disk with it.
        """
        marker = folder / "marker"
        write_text(marker, uuid4().hex)
        states = self._call("state", folder / STATE, marker_of(marker))
        remove(marker)
        if packed := states[0][0]:
            with disk_errors(folder):
                extract(packed, folder)
        tensors: dict[str, Tensor] = {}
        for rank, (_, _, rng, _) in enumerate(states):
            tensors |= {f"rng-{rank}.{name}": tensor for name, tensor in unpack_tensors(rng).items()}
        return tensors, {**states[0][1], "rng": [rng for *_, rng in states]}

    def restore(self, tensors: Mapping[str, Tensor], values: Mapping[str, Any], folder: Path) -> None:
        """Restore the learner and the random generators of every rank; ranks that share the disk read it themselves."""
        rngs = [(pack_tensors(_under(f"rng-{rank}.", tensors)), rng) for rank, rng in enumerate(values["rng"])]
        file = folder / STATE
        shared = all(self._call("sees", marker_of(folder / DOCUMENT)))
        source = file if shared else ray.put(pack_tensors(load_file(file)))
        self._call("load", source, dict(values), per_rank=rngs)
        if self.policy is not None:
            with safe_open(file, "pt") as stored:
                own = [name for name in stored.keys() if name.startswith("policy.")]  # noqa: SIM118
                self.policy.load_state_dict({name.removeprefix("policy."): stored.get_tensor(name) for name in own})
        self.version = int(values["version"])

    # -- for samplers, evaluation and saving ------------------------------------------------------------------------

    def send(self, form: Form, policy: EvalPolicy) -> Sent:
        """As `WeightSource.send`: rank 0 puts them into the object store, which this process does not read."""
        told, reference = self._call("weights", form, policy)[0]
        for line in told:
            self._log(line)
        return Sent(None, reference)

    def checksum(self, form: Form, policy: EvalPolicy, dtype: torch.dtype | None) -> str:
        """As `WeightSource.checksum`."""
        return str(self._call("checksum", form, policy, dtype)[0])

    def mean_logprob(self, samples: Sequence[Sample], *, edited: bool) -> float:
        """As `TrainedPolicy.mean_logprob`."""
        return float(self._call("mean_logprob", ray.put(list(samples)), edited, self._arm.state_dict())[0])

    def undo(self) -> None:
        """As `TrainedPolicy.undo`."""
        self._call("undo", self._arm.state_dict())

    def save(self, directory: RunDirectory) -> None:
        """As `TrainedPolicy.save`: rank 0 writes into `directory`, or sends its files if it does not share the disk."""
        packed = self._call("save", directory.path, marker_of(directory.path / "run.json"))[0]
        if not packed:
            return
        with disk_errors(directory.path), tempfile.TemporaryDirectory() as folder:
            extract(packed, Path(folder))
            for weights in sorted(Path(folder).iterdir()):
                remove(directory.path / weights.name)
                shutil.copytree(weights, directory.path / weights.name)

    def close(self) -> None:
        """End the ranks and release their placement group."""
        self._resources.close()

    def _call(self, stage: str, *shared: Any, per_rank: Sequence[Any] = ()) -> list[Any]:
        try:
            return self._group.call(stage, *shared, per_rank=per_rank, timeout=self._config.timeout)
        except BaseException:  # also an interrupt, which leaves the ranks in the middle of a stage
            self.close()
            raise

    def _start_ranks(self, run: RunConfig, model: Path, log: Callable[[str], None]) -> ActorGroup:
        """Reserve cores and GPUs, start the actors, connect them and load the policy."""
        config = self._config
        self._resources.enter_context(joined_ray())
        placements = self._resources.enter_context(rank_placements(run, log))
        needs = {"num_cpus": config.cpus, "num_gpus": config.gpus}
        group = ActorGroup(
            [LearnerActor.options(**needs, scheduling_strategy=placement).remote() for placement in placements], log
        )
        self._resources.callback(group.kill)
        infos: list[RankInfo] = group.call("info", model, timeout=START_TIMEOUT)
        group.locations = infos
        shipped = [] if all(info.has_model for info in infos) else [ray.put(archive_model(model))]
        host = _meeting_address([info.node for info in infos])
        port = group.call("listen", per_rank=[host, *[""] * (config.ranks - 1)], timeout=config.timeout)[0]
        rendezvous = {"MASTER_ADDR": host, "MASTER_PORT": str(port), "WORLD_SIZE": str(config.ranks)}
        search_path = (os.getcwd(), *(entry for entry in sys.path if entry))
        # Ray shows a process only its own GPU, so the local rank is 0 in every process.
        environments = [{**rendezvous, "RANK": str(rank), "LOCAL_RANK": "0"} for rank in range(config.ranks)]
        starting = ("start", run, model, shipped, search_path)
        vocabulary, state = group.call(*starting, per_rank=environments, timeout=config.timeout)[0]
        self.vocabulary = int(vocabulary)
        if self._arm.looks:
            self._arm.load_state_dict(state)
        return group


def _meeting_address(nodes: Sequence[str]) -> str:
    """The address at which rank 0 waits for the others: no other machine reaches it unless one has to."""
    return nodes[0] if len(set(nodes)) > 1 else LOOPBACK


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
