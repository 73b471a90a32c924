"""A rollout worker: a process of its own, on whatever machine, that plays whole groups with an engine of its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
import tempfile
import time
import traceback
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import ray
import torch

from envs.episode import Contexts, Episode
from launch.config.plugins import build_arm
from launch.config.study import RunConfig
from launch.distributed.run_worker import QUIET, extract_model
from launch.distributed.thread_dump import dump, other_threads
from launch.distributed.weights import Packed, form_of, unpack_tensors, write_adapter
from launch.errors import UserError
from launch.run.episodes import GroupRequest, slots_of
from launch.run.load_policy import load_policy
from launch.run.rollouts import Player
from launch.storage.versions import versions
from shaping.arm import Arm
from shaping.hooks import InterventionError
from shaping.sampling.broadcast import TransferError, WeightTransfer
from shaping.sampling.engine import Engine, EngineError
from shaping.sampling.play import Watch
from shaping.sampling.render import Renderer
from shaping.sampling.time_limit import time_limits
from shaping.sampling.transformers_engine import TransformersEngine

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What to sample with. It goes along with every group, so that a worker that has restarted knows it at once."""

    version: int
    weights: list[Any]
    """One reference to what `launch.distributed.weights.pack_tensors` gave: fetched only by workers that are behind."""
    arm: Mapping[str, Any]
    """What the interventions know by now."""
    model: list[Any] = field(default_factory=list)
    """One reference to the packed model, once a worker has said that its node lacks it."""


@dataclass(frozen=True, slots=True)
class WorkerFailure:
    """What a worker could not do, as plain data: exceptions of plug-ins need not unpickle elsewhere.

    `engine`: the engine has failed, and a new worker may do better. `model`: the node lacks it.
    """

    told: str
    details: str
    engine: bool
    model: bool = False


@dataclass(frozen=True, slots=True)
class Loaded:
    """A worker has taken new weights. `checksum`: of what is served, as `dtype`; empty where it was not computed.

    `missed`: why weights that were offered came from the object store after all; empty where they did not.
    """

    version: int
    checksum: str
    dtype: torch.dtype
    host: str
    versions: Mapping[str, Any]
    missed: str = ""


@dataclass(frozen=True, slots=True)
class Status:
    """Where a worker runs, and what its episodes are waiting for: (seconds, what), the longest first."""

    host: str
    pid: int
    version: int
    stages: list[tuple[float, str]] = field(default_factory=list)
    thread_dump: str = ""


class NoModelError(UserError):
    """The model directory is not on this node."""


class Worker:
    """Everything happens in one event loop but `status`, which answers also while that is blocked."""

    def __init__(self, run: RunConfig, model: Path, search_path: Sequence[str]) -> None:
        """Nothing is loaded yet."""
        threads = max(1, int(run.rollout.cpus))
        os.environ.update(QUIET | {"OMP_NUM_THREADS": str(threads)})
        torch.set_num_threads(threads)
        sys.path += [place for place in search_path if place not in sys.path]
        self._run, self._model = run, model
        self._watch: Watch = {}
        self._version = -1
        self._turn = asyncio.Lock()
        self._held = contextlib.ExitStack()
        self._sampler: Sampler | None = None

    async def play(self, work: GroupRequest, drawn: Contexts, snapshot: Snapshot) -> list[Episode] | WorkerFailure:
        """A whole group, with the weights of `snapshot` or newer ones."""

        async def playing() -> list[Episode]:
            await self._load(snapshot)
            assert self._sampler is not None
            return await self._sampler.player.play(work, drawn)

        return await _told(playing())

    async def load(self, snapshot: Snapshot, offer: WeightTransfer | None = None) -> Loaded | WorkerFailure:
        """Sample with new weights from now on, in groups under way, too. They come as offered, if they do."""

        async def loading() -> Loaded:
            checksum, missed = await self._load(snapshot, offer)
            assert self._sampler is not None
            return Loaded(self._version, checksum, self._sampler.dtype, socket.gethostname(), versions(), missed)

        return await _told(loading())

    @ray.method(concurrency_group="watch")
    async def status(self, thread_dump: bool = False) -> Status:
        now, stages = time.monotonic(), list(self._watch.values())
        if not self._run.rollout.env_threads:  # one that is inside a world keeps all others waiting
            stages = [s for s in stages if not s.samples] or stages
        told = [(now - s.since, f"world {s.world!r} (seed {s.seed}, group {s.group}): {s.what}") for s in stages]
        shown = dump(other_threads()) if thread_dump else ""
        return Status(socket.gethostname(), os.getpid(), self._version, sorted(told, reverse=True)[:100], shown)

    async def close(self) -> None:
        self._held.close()

    async def _load(self, snapshot: Snapshot, offer: WeightTransfer | None = None) -> tuple[str, str]:
        """The checksum of what is served, empty where nothing had to be done, and why an offer came to nothing."""
        async with self._turn:
            if self._sampler is None:
                self._sampler = Sampler(self._run, await self._local(snapshot), self._watch, self._held)
            if self._version >= snapshot.version:
                return "", "there was nothing to take" if offer else ""
            self._sampler.learn(snapshot.arm)
            checksum, missed = None, ""
            if offer is not None:
                try:
                    checksum = await self._sampler.receive(offer, snapshot.version)
                except TransferError as error:
                    missed = str(error)
            if checksum is None:
                checksum = await self._sampler.load(await snapshot.weights[0], snapshot.version)
            self._version = snapshot.version
            return checksum, missed

    async def _local(self, snapshot: Snapshot) -> Path:
        if self._model.exists():
            return self._model
        if not snapshot.model:
            raise NoModelError(f"{self._model} is not on {socket.gethostname()}")
        return extract_model(await snapshot.model[0])


class Sampler:
    """Engine and player of a worker. `held` closes them. Must be made in the event loop that it is used in."""

    def __init__(self, run: RunConfig, model: Path, watch: Watch, held: contextlib.ExitStack) -> None:
        self._run, self._form = run, form_of(run)
        self._arm: Arm = build_arm(run.arm, run.arm_config)
        self._knows: Mapping[str, Any] | None = None
        make = _vllm if run.rollout.engine == "vllm" else _transformers
        self._engines, renderer, self.dtype = make(run, model, self._arm)
        for engine in self._engines:
            held.callback(engine.shutdown)
        limited = held.enter_context(time_limits(run.rollout.env_threads))
        self.player = Player(run, self._arm, renderer, self._engines, limited, slots_of(run), watch)

    def learn(self, arm: Mapping[str, Any]) -> None:
        """Take what the interventions know."""
        if self._knows != arm:
            if arm:
                self._arm.load_state_dict(arm)
            edits = self._arm.edits("sampling")
            for engine in self._engines:
                engine.set_edits(edits)
            self._knows = arm

    async def receive(self, offer: WeightTransfer, version: int) -> str:
        """Take weights from the process that offers them. Returns as `load`."""
        from shaping.sampling.vllm.engine import VLLMEngine

        (engine,) = self._engines
        assert isinstance(engine, VLLMEngine)
        return await engine.receive_weights(offer, version)

    async def load(self, packed: Mapping[str, Packed], version: int) -> str:
        """Take weights. Returns the checksum of what is served, if there is one."""
        tensors = unpack_tensors(packed)
        first = self._engines[0]
        if self._form == "adapter":
            assert self._run.learner.lora is not None
            with tempfile.TemporaryDirectory() as place:
                directory = Path(place) / "adapter"
                write_adapter(tensors, self._run.learner.lora, directory)
                return await first.load_adapter(directory, version)
        checksum = await first.load_weights(tensors, version)
        for engine in self._engines[1:]:  # they share the first one's model
            assert isinstance(engine, TransformersEngine)
            engine.set_version(version)
        return checksum


def _transformers(run: RunConfig, model: Path, arm: Arm) -> tuple[list[Engine], Renderer, torch.dtype]:
    """The learner's model with all its adapters, so that nothing is rounded on the way."""
    policy = load_policy(run, model, arm, "auto" if run.rollout.gpus else "cpu")
    policy.value_head = None
    policy.model.requires_grad_(False).eval()
    policy.adapters.activate(policy.adapters.names(phase="sampling"))
    renderer = Renderer(policy.tokenizer)
    slots, count = slots_of(run), 1
    if run.rollout.batching == "group":
        slots, count = run.train.group_size, slots // run.train.group_size
    engines: list[Engine] = [TransformersEngine(policy.model, renderer, slots=slots) for _ in range(count)]
    return engines, renderer, policy.model.dtype


def _vllm(run: RunConfig, model: Path, arm: Arm) -> tuple[list[Engine], Renderer, torch.dtype]:
    from transformers import AutoTokenizer

    from shaping.sampling.vllm.engine import VLLMEngine

    rank = run.learner.lora.rank if run.learner.lora else 0
    renderer = Renderer(AutoTokenizer.from_pretrained(model, local_files_only=True))
    engine = VLLMEngine(model, renderer, run.rollout.vllm_config(rank, run.learner.dtype))
    return [engine], renderer, engine.dtype


async def _told(work: Coroutine[Any, Any, T]) -> T | WorkerFailure:
    try:
        return await work
    except Exception as error:  # the controller decides what to do about it
        explained = isinstance(error, (UserError, EngineError, InterventionError))
        told = str(error) if explained else f"{type(error).__name__}: {error}"
        return WorkerFailure(
            told, traceback.format_exc(), isinstance(error, EngineError), isinstance(error, NoModelError)
        )


def actor() -> Any:
    """The worker as a Ray actor, which comes back when it dies; what it was doing is for the controller to repeat.

    `status` has an event loop of its own.
    """
    return ray.remote(max_restarts=-1, max_task_retries=0, concurrency_groups={"watch": 8})(Worker)
