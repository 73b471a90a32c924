"""The watchdog ends a process whose interpreter is held, and no other."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[3]
WATCHED = """
import sys, time
sys.path.insert(0, {root!r})
from shaping.sampling.watchdog import watching
with watching("a call", 0.2):
    print("begun", flush=True)
    {body}
print("ended", flush=True)
"""


def started(body: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WATCHED.format(root=str(ROOT), body=body)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_call_that_lets_others_run_is_none_of_its_business() -> None:
    process = started("time.sleep(4)")
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (0, "begun\nended\n", "")


def test_a_process_that_is_stopped_and_continued_is_not_ended() -> None:
    process = started("time.sleep(1)")
    assert process.stdout is not None and process.stdout.readline() == "begun\n"
    os.kill(process.pid, signal.SIGSTOP)
    time.sleep(4)
    os.kill(process.pid, signal.SIGCONT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (0, "ended\n", "")


def test_the_child_ends_with_a_process_that_is_killed() -> None:
    import psutil

    process = started("time.sleep(60)")
    assert process.stdout is not None and process.stdout.readline() == "begun\n"
    (child,) = psutil.Process(process.pid).children()
    process.kill()
    process.wait()
    child.wait(timeout=10)
