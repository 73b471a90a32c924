"""A rollout worker: a Ray actor with its own engine that plays whole groups."""

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
from torch import Tensor

from envs.episode import Episode
from envs.text import message_of
from launch.config.plugins import build_arm
from launch.config.study import RunConfig
from launch.distributed.run_worker import QUIET, extract_model
from launch.distributed.thread_dump import dump, other_threads
from launch.distributed.weights import (
    Packed,
    form_of,
    largest_rank,
    tensors_of_player,
    unpack_tensors,
    write_adapter,
)
from launch.errors import UserError
from launch.run.captures import sampling_captures
from launch.run.episodes import GroupRequest, group_slots, slots_of
from launch.run.evaluation.eval_plan import EvalPolicy, EvalRequest, active_adapters, active_edits
from launch.run.models.adapters import adapters_of
from launch.run.models.load_policy import load_policy
from launch.run.rendering import load_tokenizer, renderer_of
from launch.run.rollouts import Player
from launch.run.seats.players import adapters_on, modes
from launch.run.seats.seating import Drawn
from launch.storage.versions import versions
from shaping.arm import Arm
from shaping.hooks import AdapterSpec, InterventionError
from shaping.models.lora.adapters import Adapters
from shaping.sampling.embedded.transformers_engine import TransformersEngine
from shaping.sampling.engine import Engine, EngineError
from shaping.sampling.play import Watch
from shaping.sampling.text.render import Renderer
from shaping.sampling.time_limit import time_limits
from shaping.sampling.transfer.broadcast import WeightTransfer
from shaping.sampling.transfer.pair_group import TransferError
from shaping.sampling.transfer.weights import checksum

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Weights and state to sample with. It is sent with every group, so that a restarted worker gets it at once."""

    version: int
    """Version of the policy."""
    weights: list[Any]
    """One reference to packed weights (`pack_tensors`). Only workers that lack them fetch them."""
    arm_state: Mapping[str, Any]
    """State of the interventions."""
    model: list[Any] = field(default_factory=list)
    """One reference to the packed model, once a worker has reported that its node lacks it."""
    number: int = 0
    """Its place in the order of snapshots: workers take none that is older than their own."""
    weights_number: int = 0
    """The snapshot that first had these weights."""
    policy: EvalPolicy = "sampling"
    """Which adapters and edits are on. Weights that are sent merged are those of these adapters."""


@dataclass(frozen=True, slots=True)
class WorkerFailure:
    """An error of a worker as plain data: exceptions of plug-ins need not unpickle elsewhere."""

    message: str
    """The error's text."""
    details: str
    """Its traceback."""
    engine_failed: bool
    """Did the engine fail? Then a restarted worker may succeed."""
    model_missing: bool = False
    """Does the node lack the model?"""


@dataclass(frozen=True, slots=True)
class WeightsLoaded:
    """A worker samples with new weights."""

    version: int
    """Version of the policy."""
    checksum: str
    """Checksum of the weights in the engine; empty if it was not computed."""
    dtype: torch.dtype
    """Their type."""
    host: str
    """The worker's machine."""
    versions: Mapping[str, Any]
    """The worker's software (`launch.storage.versions`)."""
    transfer_error: str = ""
    """Why a broadcast failed, so that the weights came from the object store; empty if none failed."""


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """Location and activity of a worker."""

    host: str
    """Its machine."""
    pid: int
    """Its process."""
    version: int
    """Version of the policy that it samples with."""
    stages: list[tuple[float, str]] = field(default_factory=list)
    """(seconds, stage) of its episodes, the longest first."""
    thread_dump: str = ""
    """Stacks of its threads, if asked for."""
    stuck: list[str] = field(default_factory=list)
    """Classes of worlds with several calls that are late, were interrupted and still run."""


class NoModelError(UserError):
    """The model directory is not on this node."""


class RolloutWorker:
    """Plays groups in one event loop. Only `status` has a loop of its own, and also answers while the first is blocked.

    Engine and model are loaded with the first weights.
    """

    def __init__(self, run: RunConfig, model: Path, search_path: Sequence[str]) -> None:
        threads = max(1, int(run.rollout.cpus))
        os.environ.update(QUIET | {"OMP_NUM_THREADS": str(threads)})
        torch.set_num_threads(threads)
        sys.path += [entry for entry in search_path if entry not in sys.path]
        self._run, self._model = run, model
        self._watch: Watch = {}
        self._version = self._number = self._weights_number = -1
        self._loading = asyncio.Lock()
        self._resources = contextlib.ExitStack()
        self._sampler: Sampler | None = None

    async def play(
        self, request: GroupRequest | EvalRequest, drawn: Drawn, snapshot: Snapshot
    ) -> list[Episode] | WorkerFailure:
        """Play a whole group, or episodes of an evaluation, with the weights of `snapshot`, or newer ones."""

        async def playing() -> list[Episode]:
            await self._load(snapshot)
            assert self._sampler is not None
            return await self._sampler.player.play(request, drawn)

        return await _errors_as_data(playing())

    async def load(self, snapshot: Snapshot, transfer: WeightTransfer | None = None) -> WeightsLoaded | WorkerFailure:
        """Sample with the weights of `snapshot` from now on, also in groups under way.

        The weights come by `transfer`, or from the object store if there is none or it fails.
        """

        async def loading() -> WeightsLoaded:
            checksum, transfer_error = await self._load(snapshot, transfer)
            assert self._sampler is not None
            return WeightsLoaded(
                self._version, checksum, self._sampler.dtype, socket.gethostname(), versions(), transfer_error
            )

        return await _errors_as_data(loading())

    @ray.method(concurrency_group="watch")
    async def status(self, thread_dump: bool = False) -> WorkerStatus:
        """Location of this worker, and the stages of its episodes."""
        now, stages = time.monotonic(), list(self._watch.values())
        if not self._run.rollout.env_threads:  # a world that steps inline keeps all other episodes waiting: name it
            stages = [s for s in stages if not s.samples] or stages
        lines = [(now - s.since, f"world {s.world!r} (seed {s.seed}, group {s.group}): {s.what}") for s in stages]
        text = dump(other_threads()) if thread_dump else ""
        stuck = self._sampler.limited.stuck() if self._sampler else []
        longest = sorted(lines, reverse=True)[:100]
        return WorkerStatus(socket.gethostname(), os.getpid(), self._version, longest, text, stuck)

    async def close(self) -> None:
        """Shut the engine down."""
        self._resources.close()

    async def _load(self, snapshot: Snapshot, transfer: WeightTransfer | None = None) -> tuple[str, str]:
        """Returns the checksum of the loaded weights (empty if they were up to date), and why `transfer` failed."""
        async with self._loading:
            if self._sampler is None:
                self._sampler = Sampler(self._run, await self._model_path(snapshot), self._watch, self._resources)
            if self._number >= snapshot.number:
                return "", "the worker had these weights already" if transfer else ""
            self._sampler.set_policy(snapshot.arm_state, snapshot.policy)
            if self._weights_number == snapshot.weights_number:
                self._number = snapshot.number
                return "", ""
            checksum, transfer_error = None, ""
            if transfer is not None:
                try:
                    checksum = await self._sampler.receive(transfer, snapshot.version)
                except TransferError as error:
                    transfer_error = str(error)
            if checksum is None:
                checksum = await self._sampler.load(await snapshot.weights[0], snapshot.version)
            self._version, self._number = snapshot.version, snapshot.number
            self._weights_number = snapshot.weights_number
            return checksum, transfer_error

    async def _model_path(self, snapshot: Snapshot) -> Path:
        if self._model.exists():
            return self._model
        if not snapshot.model:
            raise NoModelError(f"{self._model} is not on {socket.gethostname()}")
        return extract_model(await snapshot.model[0])


class Sampler:
    """Engine and player of a worker. Create it in the event loop that uses it; `resources` closes it."""

    def __init__(self, run: RunConfig, model: Path, watch: Watch, resources: contextlib.ExitStack) -> None:
        self._run, self._form = run, form_of(run)
        self._arm: Arm = build_arm(run.arm, run.arm_config, run.isolation, run.learner.ratio, run.seats)
        self._set: tuple[Mapping[str, Any], EvalPolicy] | None = None
        self._specs = adapters_of(run, self._arm)
        self._adapters: Adapters | None = None
        if run.rollout.engine == "vllm":
            self._engines, renderer, self.dtype = _vllm(run, model, self._specs)
        else:
            self._engines, renderer, self._adapters = _transformers(run, model, self._arm)
            self.dtype = self._adapters.model.dtype
        for engine in self._engines:
            resources.callback(engine.shutdown)
        self.limited = resources.enter_context(time_limits(run.rollout.env_threads))
        self.player = Player(run, self._arm, renderer, self._engines, self.limited, slots_of(run), watch)

    def set_policy(self, state: Mapping[str, Any], policy: EvalPolicy) -> None:
        """Set the state of the interventions, and the adapters and activation edits of `policy`.

        Adapters that are sent merged, or as one, are set by `load`.
        """
        if self._set == (state, policy):
            return
        if state and (self._set is None or self._set[0] != state):
            self._arm.load_state_dict(state)
        if self._adapters is not None:
            self._adapters.activate([spec.name for spec in active_adapters(self._specs, policy)])
        edits = active_edits(self._arm, policy)
        for engine in self._engines:  # it also forgets the keys and values of other adapters
            engine.set_edits(edits)
            if self._adapters is not None and isinstance(engine, TransformersEngine):
                engine.set_players(self._adapters, modes(self._run, self._specs, self._arm, policy))
        self._set = state, policy

    async def receive(self, transfer: WeightTransfer, version: int) -> str:
        """Receive weights from the learner's process. Returns their checksum; raises `TransferError`."""
        from shaping.sampling.vllm.engine import VLLMEngine

        (engine,) = self._engines
        assert isinstance(engine, VLLMEngine)
        return await engine.receive_weights(transfer, version)

    async def load(self, packed: Mapping[str, Packed], version: int) -> str:
        """Load packed weights. Returns the checksum of those in the engine; empty if the engine computes none."""
        tensors = unpack_tensors(packed)
        first = self._engines[0]
        if self._form == "adapter":
            assert self._set is not None
            if on := adapters_on(self._run, self._specs, self._set[1]):
                return await self._load_players(tensors, on, version)
            adapters = active_adapters(self._specs, self._set[1])
            if not adapters:
                return await first.load_adapter(None, version)
            with tempfile.TemporaryDirectory() as folder:
                directory = Path(folder) / "adapter"
                write_adapter(tensors, adapters, directory)
                return await first.load_adapter(directory, version)
        checksum = await first.load_weights(tensors, version)
        for engine in self._engines[1:]:  # they share the model of the first one
            assert isinstance(engine, TransformersEngine)
            engine.set_version(version)
        return checksum

    async def _load_players(self, tensors: Mapping[str, Tensor], on: Mapping[str, Sequence[str]], version: int) -> str:
        """Serve one adapter for every player. Returns the checksum of all of them."""
        from shaping.sampling.vllm.engine import VLLMEngine

        (engine,) = self._engines
        assert isinstance(engine, VLLMEngine)
        specs = {spec.name: spec for spec in self._specs}
        with tempfile.TemporaryDirectory() as folder:
            directories: dict[str, Path | None] = dict.fromkeys(on)
            for number, (player, names) in enumerate(on.items()):
                if names:
                    directories[player] = Path(folder) / str(number)
                    write_adapter(
                        tensors_of_player(tensors, player), [specs[n] for n in names], Path(folder) / str(number)
                    )
            await engine.load_players(directories, version)
        return checksum(tensors)


def _transformers(run: RunConfig, model: Path, arm: Arm) -> tuple[list[Engine], Renderer, Adapters]:
    """The learner's model with separate adapters: merging them would round the weights."""
    policy = load_policy(run, model, arm, "auto" if run.rollout.gpus else "cpu")
    policy.value_head = None
    policy.model.requires_grad_(False).eval()
    renderer = renderer_of(run, policy.tokenizer)
    slots, count = slots_of(run), 1
    if run.rollout.batching == "group":
        slots, count = group_slots(run), slots // group_slots(run)
    captures = sampling_captures(run, arm)
    engines: list[Engine] = [
        TransformersEngine(policy.model, renderer, slots=slots, captures=captures) for _ in range(count)
    ]
    return engines, renderer, policy.adapters


def _vllm(run: RunConfig, model: Path, adapters: Sequence[AdapterSpec]) -> tuple[list[Engine], Renderer, torch.dtype]:
    from shaping.sampling.vllm.engine import VLLMEngine

    if not run.rollout.gpus and torch.cuda.is_available():
        raise UserError(
            "rollout.engine=vllm would take the first GPU of this node, which this worker has not reserved: set "
            "rollout.gpus to 1, or to the share of a GPU that it may have"
        )
    players = sum(bool(names) for names in adapters_on(run, adapters, "sampling").values())
    renderer = renderer_of(run, load_tokenizer(model))
    config = run.rollout.vllm_config(largest_rank(run, adapters), run.learner.dtype, max(players, 1))
    engine = VLLMEngine(model, renderer, config)
    return [engine], renderer, engine.dtype


async def _errors_as_data(coroutine: Coroutine[Any, Any, T]) -> T | WorkerFailure:
    try:
        return await coroutine
    except Exception as error:  # the controller decides what to do about it
        explained = isinstance(error, (UserError, EngineError, InterventionError))
        text = message_of(error)
        message = text if explained else f"{type(error).__name__}: {text}"
        return WorkerFailure(
            message, traceback.format_exc(), isinstance(error, EngineError), isinstance(error, NoModelError)
        )


def worker_actor() -> Any:
    """`RolloutWorker` as a Ray actor class. Ray restarts dead actors; the controller repeats their groups."""
    return ray.remote(max_restarts=-1, max_task_retries=0, concurrency_groups={"watch": 8})(RolloutWorker)
