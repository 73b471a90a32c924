"""Who plays what, on a clock that only simulated episodes move: neither controller nor machine take time on it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))  # benchmarks are run from the repository, not installed

from benchmarks.controller import SIZE, config
from benchmarks.quickstart import UNSHAPED
from benchmarks.simulated import Clock, Load, in_process
from envs.episode import Episode
from launch.config.study import RunConfig
from launch.distributed.workers.rollout_records import LOSSES_BEFORE_ALONE
from launch.run.episodes import GroupRequest
from launch.run.rollouts import RolloutError
from launch.storage.versions import versions

WORKS = [GroupRequest(0, group) for group in range(100)]


def run_with(workers: int, slots: int) -> RunConfig:
    run = config(workers, 1, 0)
    return run.model_copy(update={"rollout": run.rollout.model_copy(update={"slots": slots})})


@pytest.mark.parametrize(("workers", "slots"), [(8, SIZE), (4, 4 * SIZE), (1, 16 * SIZE)])
def test_stragglers_leave_no_slots_empty_while_there_is_work(
    workers: int, slots: int, make_episode: Callable[..., Episode]
) -> None:
    run, load, clock = run_with(workers, slots), Load([make_episode()], 10.0), Clock(charged=False)
    with in_process(run, UNSHAPED, load, clock) as (rollouts, busy):
        rollouts.sync(0)
        rollouts.submit(WORKS)
        assert sorted(rollouts.next().request for _ in WORKS) == WORKS
        spans = busy()
    last = max(start for start, _ in spans)
    taken = sum(min(stop, last) - start for start, stop in spans)
    assert taken / (workers * slots * last) > 0.93


@dataclass(frozen=True)
class Diary(Load):
    given: list[GroupRequest] = field(default_factory=list)
    """Which group each episode in a slot is of."""

    def duration(self, request: GroupRequest, member: int) -> float:
        self.given.append(request)
        return super().duration(request, member)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_group_that_killed_its_workers_gets_one_to_itself_though_others_wait(
    workers: int, make_episode: Callable[..., Episode]
) -> None:
    killer = WORKS[0]
    load = Diary([make_episode()], 10.0, deaths={killer: LOSSES_BEFORE_ALONE})
    with in_process(run_with(workers, SIZE), UNSHAPED, load, Clock(charged=False)) as (rollouts, busy):
        rollouts.sync(0)
        rollouts.submit(WORKS[:50])
        back = [rollouts.next().request for _ in range(30)]
        assert killer in back
        assert len(set(back)) == 30
        played = list(zip(load.given, busy(), strict=True))
    tries = [span for request, span in played if request == killer]
    assert len(tries) == SIZE * (LOSSES_BEFORE_ALONE + 1)
    start, end = min(start for start, _ in tries[-SIZE:]), max(stop for _, stop in tries[-SIZE:])
    beside = {request for request, span in played if request != killer and span[0] < end and span[1] > start}
    if workers == 1:
        assert not beside
    else:
        assert beside, "the other worker goes on"


@pytest.mark.parametrize("alike", [True, False])
def test_a_worker_that_comes_back_on_another_node_is_compared_though_it_has_older_weights(
    alike: bool, make_episode: Callable[..., Episode], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its checksum says nothing any more, its packages do."""
    load = Load([make_episode()], 0.0, deaths={WORKS[0]: 1})
    with in_process(run_with(1, SIZE), UNSHAPED, load, Clock(charged=False)) as (rollouts, _):
        rollouts.sync(0)
        rollouts.submit(WORKS[:3])
        assert rollouts.next().request == WORKS[1], "the worker has died, and is asked to load version 0 again"
        rollouts.sync(1)
        if alike:
            assert sorted(rollouts.next().request for _ in range(2)) == [WORKS[0], WORKS[2]]
            return
        ours = versions()
        other = {**ours, "packages": {**ours["packages"], "torch": "0.1"}}
        monkeypatch.setattr("benchmarks.simulated.versions", lambda: other)
        with pytest.raises(RolloutError, match=r"runs other software than this process.*torch.*Install the same"):
            [rollouts.next() for _ in range(2)]
