"""The log says who is slow, and for how long."""

from __future__ import annotations

import time

from envs.limits import within
from launch.run.timing import slow


def test_a_call_that_takes_long_is_named_with_its_seconds() -> None:
    told: list[str] = []
    within(30.0, lambda: time.sleep(1.3), slow("reward Judge, group 2", told.append), every=0.4)
    assert told[0] == "reward Judge, group 2: no answer for 0 s, still waiting"
    assert told[-1] == "reward Judge, group 2: no answer for 1 s, still waiting"
