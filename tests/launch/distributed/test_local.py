"""A study stops cleanly when its terminal closes, and leaves no process behind when it is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from waiting import patience, wait_until

from launch.distributed.local import interruptible
from launch.distributed.orphans import MARK, none_left_behind

DRIVER = """
import subprocess, sys, time
from launch.distributed.orphans import none_left_behind

with none_left_behind():
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    print(child.pid, flush=True)
    time.sleep(float(sys.argv[1]))
"""


@pytest.fixture
def restored() -> Iterator[None]:
    before = signal.getsignal(signal.SIGHUP)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("restored")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_stop_is_as_good_as_ctrl_c(number: signal.Signals) -> None:
    before = signal.getsignal(number)

    def stopped() -> None:
        with interruptible():
            os.kill(os.getpid(), number)
            time.sleep(5)

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert signal.getsignal(number) == before


@pytest.mark.usefixtures("restored")
def test_under_nohup_a_study_outlives_its_terminal() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with interruptible():
        os.kill(os.getpid(), signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN


def driver(seconds: float) -> tuple[subprocess.Popen[str], psutil.Process]:
    """A process that has started another one, which does not end with it."""
    folder = Path(__file__).parents[3]
    command = [sys.executable, "-c", DRIVER, str(seconds)]
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, psutil.Process(int(process.stdout.readline()))


def test_what_a_killed_driver_has_started_ends_within_seconds() -> None:
    process, child = driver(600)
    process.kill()
    process.wait()
    started = time.monotonic()
    wait_until(lambda: not child.is_running(), 10)
    assert time.monotonic() - started < patience(10)


def test_what_a_driver_leaves_on_purpose_goes_on_after_a_clean_end() -> None:
    process, child = driver(0)
    assert process.wait(patience(20)) == 0
    time.sleep(1)
    try:
        assert child.is_running()
    finally:
        child.kill()


def test_the_mark_is_taken_back() -> None:
    before = os.environ.get(MARK)
    with none_left_behind():
        assert os.environ[MARK] != before
    assert os.environ.get(MARK) == before
