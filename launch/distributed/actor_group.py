"""Actors that work together: all are asked the same, and one that is lost takes the others with it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ray

from launch.distributed.learner_worker import RankFailure, RankStatus
from launch.run.recovery import RankLost
from shaping.learning.learner import LearnerError
from shaping.learning.policy import PolicyError

GRACE = 5.0
"""Seconds that the others get to say what has become of them, once one has failed; and to show their stacks."""
HEARTBEAT = 60.0
"""Seconds of waiting after which the run's log hears of it, again and again."""
ERRORS: Mapping[str, type[Exception]] = {"LearnerError": LearnerError, "PolicyError": PolicyError}


@dataclass(frozen=True, slots=True)
class Dead:
    """Instead of an answer: the process is no more, or its node is out of reach."""

    why: str


class ActorGroup:
    """`actors` in the order of their ranks. `tell` hears who is waited for, and whatever explains a failure."""

    def __init__(self, actors: Sequence[Any], tell: Callable[[str], None]) -> None:
        self.actors = list(actors)
        self.places: list[Any] = []
        """Where each of them runs, for messages."""
        self._tell = tell

    def ask(self, stage: str, *alike: Any, timeout: float, each: Sequence[Any] = ()) -> list[Any]:
        """Every rank's answer to its method `stage`, called with the arguments `alike` and its own one of `each`.

        Raises `RankLost` where a rank dies or has not answered after `timeout` seconds, and what a rank raises, with
        its name.
        """
        waiting = {}
        for rank, actor in enumerate(self.actors):
            waiting[getattr(actor, stage).remote(*alike, *each[rank : rank + 1])] = rank
        answers: dict[int, Any] = {}
        started = time.monotonic()
        deadline, beat = started + timeout, started + HEARTBEAT
        while waiting and (now := time.monotonic()) < deadline:
            ready, _ = ray.wait(list(waiting), num_returns=1, timeout=max(min(deadline, beat) - now, 0.0))
            for reference in ready:
                rank = waiting.pop(reference)
                answers[rank] = _answer(reference)
                if isinstance(answers[rank], (RankFailure, Dead)):
                    deadline = min(deadline, time.monotonic() + GRACE)
            if time.monotonic() >= beat:
                beat += HEARTBEAT
                waited = time.monotonic() - started
                self._tell(f"the learner group has been in {stage} for {waited:.0f} s: {_ranks(waiting.values())}")
        if waiting or any(isinstance(answer, (RankFailure, Dead)) for answer in answers.values()):
            raise self._failure(stage, answers, time.monotonic() - started)
        return [answers[rank] for rank in range(len(answers))]

    def kill(self) -> None:
        for actor in self.actors:
            with contextlib.suppress(Exception):
                ray.kill(actor)
        self.actors.clear()

    def _failure(self, stage: str, answers: Mapping[int, Any], waited: float) -> Exception:
        """What has gone wrong: a death explains the failed exchanges of others, and so does an error of one rank."""
        dead = {rank: answer.why for rank, answer in answers.items() if isinstance(answer, Dead)}
        if dead:
            return RankLost("; ".join(f"{self._name(rank)} was lost in {stage}: {why}" for rank, why in dead.items()))
        failures = {rank: answer for rank, answer in sorted(answers.items()) if isinstance(answer, RankFailure)}
        for rank, failure in failures.items():
            self._tell(f"--- {self._name(rank)}\n{failure.details}")
        for rank, failure in failures.items():
            if not failure.exchange:
                kind = "" if failure.kind in ERRORS else f"{failure.kind}: "
                told = f"{self._name(rank)} failed in {stage}: {kind}{failure.told}"
                return ERRORS.get(failure.kind, LearnerError)(told)
        silent = [rank for rank in range(len(self.actors)) if rank not in answers]
        if silent:
            return RankLost(
                f"no answer in {stage} within {waited:.0f} s: {self._guilty(silent)}; stacks are in the log"
            )
        rank, failure = next(iter(failures.items()))
        return RankLost(f"{self._name(rank)} could not exchange numbers in {stage}: {failure.told}")

    def _guilty(self, silent: Sequence[int]) -> str:
        """Which of the silent ranks holds up the others; the stacks of all are told."""
        asked = {rank: self.actors[rank].thread_dump.remote() for rank in silent}
        ray.wait(list(asked.values()), num_returns=len(asked), timeout=GRACE)
        found: dict[int, RankStatus] = {}
        for rank, reference in asked.items():
            with contextlib.suppress(ray.exceptions.RayError):
                found[rank] = ray.get(reference, timeout=0)
            stacks = (
                found[rank].thread_dump if rank in found else "no answer to this either: stopped, or in native code"
            )
            self._tell(f"--- {self._name(rank)}\n{stacks}")
        busy = [rank for rank in silent if rank not in found or not found[rank].waits]
        waiting = [rank for rank in silent if rank not in busy]
        names = " and ".join(self._name(rank) for rank in busy or silent)
        return names + (f", on which {_ranks(waiting)} wait{'s' * (len(waiting) == 1)}" if busy and waiting else "")

    def _name(self, rank: int) -> str:
        place = f" ({self.places[rank]})" if self.places else ""
        return f"rank {rank} of {len(self.actors)}{place}"


def _answer(reference: Any) -> Any:
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:  # what does not pickle, for one
        return RankFailure(type(error.cause).__name__, str(error.cause), str(error))
    except ray.exceptions.RayActorError:
        return Dead("its process or its node died (killed, out of memory, or a crash in native code)")
    except ray.exceptions.RayError as error:  # its answer was on a node that is gone
        return Dead(str(error).partition("\n")[0])


def _ranks(ranks: Iterable[int]) -> str:
    found = sorted(ranks)
    return f"rank{'s' if len(found) > 1 else ''} {', '.join(map(str, found))}"
