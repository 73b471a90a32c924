"""Calls that may hang: values and errors come back, and what is late is left behind and told."""

from __future__ import annotations

import threading
import time

import pytest

from envs.limits import NoAnswerError, within


def test_the_value_and_the_error_of_a_call_come_back() -> None:
    assert within(5.0, lambda: 3) == 3
    with pytest.raises(SystemExit):
        within(5.0, lambda: exec("raise SystemExit(2)"))


def test_a_late_call_is_told_while_it_is_waited_for_and_left_behind() -> None:
    told: list[float] = []
    over = threading.Event()
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        within(0.5, lambda: over.wait(60), told.append, every=0.1)
    assert time.monotonic() - began < 5 and told and told == sorted(told)
    over.set()


def test_a_time_out_of_the_call_itself_is_not_taken_for_a_late_answer() -> None:
    def refused() -> None:
        raise TimeoutError

    with pytest.raises(TimeoutError) as raised:
        within(5.0, refused)
    assert not isinstance(raised.value, NoAnswerError)
    with pytest.raises(NoAnswerError, match=r"no answer within 0\.1 s"):
        within(0.1, lambda: time.sleep(1))
