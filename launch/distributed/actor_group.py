"""Ray actors called in lockstep; if one dies, the group fails."""

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
"""Seconds that the other ranks have to answer once one has failed, and that silent ranks have to send a thread dump."""
HEARTBEAT = 60.0
"""Seconds between two lines in the run's log while a call is waiting."""
ERRORS: Mapping[str, type[Exception]] = {"LearnerError": LearnerError, "PolicyError": PolicyError}


@dataclass(frozen=True, slots=True)
class ActorDied:
    """Takes the place of an answer: the process has ended, or its node cannot be reached."""

    reason: str


class ActorGroup:
    """Actors in the order of their ranks, each called with the same method at the same time."""

    def __init__(self, actors: Sequence[Any], log: Callable[[str], None]) -> None:
        """`log` receives the ranks that are waited for, and the tracebacks and thread dumps of failures."""
        self.actors = list(actors)
        self.locations: list[Any] = []
        """Node and process of each rank, for messages. Set by the caller once the actors run."""
        self._log = log

    def call(self, stage: str, *shared: Any, timeout: float, per_rank: Sequence[Any] = ()) -> list[Any]:
        """Call the method `stage` on every rank with the shared arguments plus `per_rank[rank]`.

        Returns:
            The answers, in the order of the ranks. Of a method with two, the second one stays a reference.

        Raises:
            RankLost: A rank died, or has not answered within `timeout` seconds.
            LearnerError, PolicyError: A rank raised an error; the message names the rank.
        """
        waiting, kept = {}, dict[int, Any]()
        for rank, actor in enumerate(self.actors):
            reference = getattr(actor, stage).remote(*shared, *per_rank[rank : rank + 1])
            if isinstance(reference, list):
                reference, kept[rank] = reference
            waiting[reference] = rank
        answers: dict[int, Any] = {}
        started = time.monotonic()
        deadline, beat = started + timeout, started + HEARTBEAT
        while waiting and (now := time.monotonic()) < deadline:
            ready, _ = ray.wait(list(waiting), num_returns=1, timeout=max(min(deadline, beat) - now, 0.0))
            for reference in ready:
                rank = waiting.pop(reference)
                answers[rank] = _answer(reference)
                if isinstance(answers[rank], (RankFailure, ActorDied)):
                    deadline = min(deadline, time.monotonic() + GRACE)
            if time.monotonic() >= beat:
                beat += HEARTBEAT
                waited = time.monotonic() - started
                self._log(f"the learner group has been in {stage} for {waited:.0f} s: {_rank_list(waiting.values())}")
        if waiting or any(isinstance(answer, (RankFailure, ActorDied)) for answer in answers.values()):
            raise self._explain(stage, answers, time.monotonic() - started)
        return [(answers[rank], kept[rank]) if rank in kept else answers[rank] for rank in range(len(answers))]

    def kill(self) -> None:
        """End all actors at once."""
        for actor in self.actors:
            with contextlib.suppress(Exception):
                ray.kill(actor)
        self.actors.clear()

    def _explain(self, stage: str, answers: Mapping[int, Any], waited: float) -> Exception:
        """The error to raise. A dead rank, or an error in one rank, explains the failed exchanges of the others."""
        dead = {rank: answer.reason for rank, answer in answers.items() if isinstance(answer, ActorDied)}
        if dead:
            return RankLost(
                "; ".join(f"{self._rank_name(rank)} was lost in {stage}: {why}" for rank, why in dead.items())
            )
        failures = {rank: answer for rank, answer in sorted(answers.items()) if isinstance(answer, RankFailure)}
        for rank, failure in failures.items():
            self._log(f"--- {self._rank_name(rank)}\n{failure.details}")
        for rank, failure in failures.items():
            if not failure.in_exchange:
                kind = "" if failure.kind in ERRORS else f"{failure.kind}: "
                message = f"{self._rank_name(rank)} failed in {stage}: {kind}{failure.message}"
                return ERRORS.get(failure.kind, LearnerError)(message)
        silent = [rank for rank in range(len(self.actors)) if rank not in answers]
        if silent:
            return RankLost(
                f"no answer in {stage} within {waited:.0f} s: {self._blocking_ranks(silent)}; thread dumps are in the "
                "log"
            )
        rank, failure = next(iter(failures.items()))
        return RankLost(f"{self._rank_name(rank)} could not exchange numbers in {stage}: {failure.message}")

    def _blocking_ranks(self, silent: Sequence[int]) -> str:
        """Names the silent ranks that hold up the others, and logs the thread dumps of all of them."""
        requests = {rank: self.actors[rank].status.remote() for rank in silent}
        ray.wait(list(requests.values()), num_returns=len(requests), timeout=GRACE)
        statuses: dict[int, RankStatus] = {}
        for rank, reference in requests.items():
            with contextlib.suppress(ray.exceptions.RayError):
                statuses[rank] = ray.get(reference, timeout=0)
            text = (
                statuses[rank].thread_dump
                if rank in statuses
                else "no thread dump either: the process is stopped, or in native code"
            )
            self._log(f"--- {self._rank_name(rank)}\n{text}")
        blocking = [rank for rank in silent if rank not in statuses or not statuses[rank].waiting]
        waiting = [rank for rank in silent if rank not in blocking]
        names = " and ".join(self._rank_name(rank) for rank in blocking or silent)
        if not (blocking and waiting):
            return names
        return f"{names}, on which {_rank_list(waiting)} wait{'s' * (len(waiting) == 1)}"

    def _rank_name(self, rank: int) -> str:
        location = f" ({self.locations[rank]})" if self.locations else ""
        return f"rank {rank} of {len(self.actors)}{location}"


def _answer(reference: Any) -> Any:
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:  # e.g. an answer that cannot be pickled
        return RankFailure(type(error.cause).__name__, str(error.cause), str(error))
    except ray.exceptions.RayActorError:
        return ActorDied("its process or its node died (killed, out of memory, or a crash in native code)")
    except ray.exceptions.RayError as error:  # the answer was stored on a node that is gone
        return ActorDied(str(error).partition("\n")[0])


def _rank_list(ranks: Iterable[int]) -> str:
    ordered = sorted(ranks)
    return f"rank{'s' if len(ordered) > 1 else ''} {', '.join(map(str, ordered))}"
