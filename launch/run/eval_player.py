"""Who plays the episodes of an evaluation: the policy in this process. `launch.distributed` has another one."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol

from envs.episode import Episode
from launch.config.plugins import build_splitter
from launch.config.study import RunConfig
from launch.run.episodes import DEPLOYED, SLOTS, limits
from launch.run.eval_plan import (
    EvalBatch,
    EvalPart,
    Played,
    active_adapters,
    active_edits,
    batches,
    playing_arm,
)
from shaping.arm import Arm
from shaping.learning.policy import Policy
from shaping.sampling.play import play
from shaping.sampling.render import Renderer
from shaping.sampling.time_limit import time_limits
from shaping.sampling.transformers_engine import TransformersEngine


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
            played = asyncio.run(self._played([parts[number] for number in batch.members], batch))
            for number, episodes in zip(batch.members, played, strict=True):
                found[number] = episodes
        model.train(training)
        return found

    async def _played(self, parts: Sequence[EvalPart], batch: EvalBatch) -> list[list[Episode]]:
        run, policy = self._run, self._policy
        engine = TransformersEngine(policy.model, self._renderer, slots=SLOTS)
        engine.set_edits(active_edits(self._arm, batch.policy))
        names = [spec.name for spec in active_adapters(policy.adapters.specs.values(), batch.policy)]
        gate, splitter = asyncio.Semaphore(SLOTS), build_splitter(run.rollout.splitter)
        with policy.adapters.using(names), time_limits(run.rollout.env_threads) as limited:
            return await asyncio.gather(
                *(
                    play(
                        [episode.request(run) for episode in part.episodes],
                        engine,
                        self._renderer,
                        playing_arm(self._arm, part.policy),
                        limits=limits(run),
                        concurrency=gate,
                        splitter=splitter,
                        limited=limited,
                    )
                    for part in parts
                )
            )
