"""Evaluations and audits on the rollout workers of a run: no model samples in the controller."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from envs.episode import Episode
from launch.config.study import RunConfig
from launch.distributed.rollouts import RayRollouts
from launch.run.eval_plan import EvalPart, EvalRequest, Played, batches
from launch.run.load_policy import kept_adapter
from shaping.arm import Arm


class WorkerEvalPlayer:
    """An `EvalPlayer`: the workers play with the learner's weights of `version()`, and are given nothing else to do.

    What a worker plays together is the same for any number of workers, so that with `rollout.batching: group` results
    do not depend on it. Episodes of workers that die are played again, as in training.
    """

    def __init__(self, run: RunConfig, arm: Arm, rollouts: RayRollouts, version: Callable[[], int]) -> None:
        self._run, self._arm, self._rollouts, self._version = run, arm, rollouts, version

    def play(self, parts: Sequence[EvalPart], *, fresh: bool = False) -> Played:
        """As `EvalPlayer.play`."""
        found: Played = [[] for _ in parts]
        for batch in batches(parts, [*kept_adapter(self._run.learner), *self._arm.adapters()], self._arm):
            requests, of_part = list[EvalRequest](), list[int]()
            for member in batch.members:
                for request in self._requests(parts[member], len(requests)):
                    requests.append(request)
                    of_part.append(member)
            played = self._rollouts.evaluate(self._version(), batch.policy, requests, fresh=fresh)
            for member, episodes in zip(of_part, played, strict=True):
                found[member] += self._checked(episodes)
        return found

    def _requests(self, part: EvalPart, first: int) -> list[EvalRequest]:
        """Its episodes, in groups of the size that workers have slots for."""
        size = self._run.train.group_size
        chunks = [part.episodes[start : start + size] for start in range(0, len(part.episodes), size)]
        return [EvalRequest(first + number, part.policy, chunk) for number, chunk in enumerate(chunks)]

    def _checked(self, episodes: list[Episode]) -> list[Episode]:
        """An evaluation is of one version of the weights."""
        versions = {int(v) for e in episodes for turn in e.turns for v in turn.policy_versions}
        assert versions <= {self._version()}, f"an evaluation of version {self._version()} has tokens of {versions}"
        return episodes
