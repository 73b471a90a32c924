"""Evaluations and audits on the rollout workers of a run: no model samples in the controller."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from envs.episode import Episode
from launch.config.study import RunConfig
from launch.distributed.workers.rollouts import RayRollouts
from launch.run.evaluation.eval_plan import EvalPart, Played, batches, requests_of
from launch.run.models.adapters import adapters_of
from launch.run.rollouts import RolloutError
from shaping.arm import Arm


class WorkerEvalPlayer:
    """An `EvalPlayer`: the workers play with the learner's weights of `version()`, and are given nothing else to do.

    With `rollout.batching: group` results do not depend on the workers. Episodes of workers that die are played again,
    as in training.
    """

    def __init__(self, run: RunConfig, arm: Arm, rollouts: RayRollouts, version: Callable[[], int]) -> None:
        self._run, self._arm, self._rollouts, self._version = run, arm, rollouts, version

    def play(self, parts: Sequence[EvalPart], *, fresh: bool = False) -> Played:
        """As `EvalPlayer.play`."""
        found: Played = [[] for _ in parts]
        for batch in batches(parts, adapters_of(self._run, self._arm), self._arm):
            requests = requests_of(parts, batch, self._run.train.group_size)  # workers have slots for so many
            wanted = [request for _, request in requests]
            played = self._rollouts.evaluate(self._version(), batch.policy, wanted, fresh=fresh)
            for (member, _), episodes in zip(requests, played, strict=True):
                found[member] += self._checked(episodes)
        return found

    def _checked(self, episodes: list[Episode]) -> list[Episode]:
        """Raises `RolloutError` for tokens that another version of the weights has sampled."""
        versions = {int(version) for e in episodes for turn in e.turns for version in turn.policy_versions}
        if other := versions - {self._version()}:
            raise RolloutError(
                f"an evaluation of version {self._version()} has tokens of version {min(other)}. Please report this "
                "with the run's config and log"
            )
        return episodes
