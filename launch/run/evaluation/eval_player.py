"""Who plays the episodes of an evaluation: the policy in this process. `launch.distributed` has another one."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol

from envs.episode import Episode
from launch.config.study import RunConfig
from launch.run.captures import sampling_captures
from launch.run.episodes import DEPLOYED, GroupDraw, group_slots, policies_of
from launch.run.evaluation.eval_plan import (
    EvalBatch,
    EvalPart,
    EvalRequest,
    Played,
    active_adapters,
    active_edits,
    batches,
    requests_of,
)
from launch.run.rollouts import Player
from launch.run.seats.players import modes
from launch.run.slots import eval_slots
from shaping.arm import Arm
from shaping.learning.policy import Policy
from shaping.sampling.embedded.transformers_engine import TransformersEngine
from shaping.sampling.text.render import Renderer
from shaping.sampling.time_limit import time_limits


class EvalPlayer(Protocol):
    """Plays what an evaluation asks for, with the learner's present weights."""

    def play(self, parts: Sequence[EvalPart], *, fresh: bool = False) -> Played:
        """The episodes of each part. Parts that can share a batch do; no episode depends on what is played beside it.

        `fresh`: weights may have changed since the last call, though there was no update.
        """


class LocalEvalPlayer:
    """Plays in this process. Weights, active adapters and the model's mode are afterwards as before."""

    def __init__(self, run: RunConfig, policy: Policy, renderer: Renderer, arm: Arm = DEPLOYED) -> None:
        self._run, self._policy, self._renderer, self._arm = run, policy, renderer, arm

    def play(self, parts: Sequence[EvalPart], *, fresh: bool = False) -> Played:
        model = self._policy.model
        training = model.training
        model.eval()
        found: Played = [[] for _ in parts]
        for batch in batches(parts, self._policy.adapters.specs.values(), self._arm):
            requests = requests_of(parts, batch, self._size)
            played = asyncio.run(self._played([request for _, request in requests], batch))
            for (number, _), episodes in zip(requests, played, strict=True):
                found[number] += episodes
        model.train(training)
        return found

    async def _played(self, requests: Sequence[EvalRequest], batch: EvalBatch) -> list[list[Episode]]:
        run, policy = self._run, self._policy
        most = max(eval_slots(run, policy.model), policies_of(run))
        slots = group_slots(run) if self._size else most
        captures = sampling_captures(run, self._arm)
        engines = [
            TransformersEngine(policy.model, self._renderer, slots=slots, captures=captures)
            for _ in range(-(-most // slots))
        ]
        for engine in engines:
            engine.set_edits(active_edits(self._arm, batch.policy))
            engine.set_players(policy.adapters, modes(run, policy.adapters.specs.values(), self._arm, batch.policy))
        names = [spec.name for spec in active_adapters(policy.adapters.specs.values(), batch.policy)]
        with policy.adapters.using(names), time_limits(run.rollout.env_threads) as limited:
            player = Player(run, self._arm, self._renderer, engines, limited, slots * len(engines))
            return await asyncio.gather(*(player.play(request, GroupDraw()) for request in requests))

    @property
    def _size(self) -> int | None:
        """Episodes that share a batch; none: all do."""
        return self._run.train.group_size if self._run.rollout.batching == "group" else None
