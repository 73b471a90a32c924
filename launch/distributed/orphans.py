"""What outlives a driver that is killed: Ray's own agents, and processes that workers have started, are ended, too.

Ray ends most of its processes when the driver dies, but its dashboard and environment agents stay for good. Everything
that is started inside the block inherits a mark in its environment. A process beside the driver waits for the driver to
end, gives Ray a moment, and then ends everything with that mark.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

MARK = "SHAPING_STUDY_PROCESS"
"""Environment variable whose value is the mark of one driver."""
_GRACE = 3.0
"""Seconds in which Ray's workers may end by themselves, once the driver is gone."""
_WATCH = f"""
import os, signal, sys, time
driver, mark = int(sys.argv[1]), (b"{MARK}=" + sys.argv[2].encode())
while os.getppid() == driver:
    time.sleep(0.5)

def marked():
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid():
            try:
                with open("/proc/" + name + "/environ", "rb") as file:
                    if mark in file.read().split(b"\\0"):
                        yield int(name)
            except OSError:
                pass

deadline = time.monotonic() + {_GRACE}
while time.monotonic() < deadline and any(marked()):
    time.sleep(0.2)
while found := list(marked()):
    for process in found:
        try:
            os.kill(process, signal.SIGKILL)
        except OSError:
            pass
    time.sleep(0.2)
"""


@contextlib.contextmanager
def none_left_behind() -> Iterator[None]:
    """End what is started inside the block if this process is killed. Only where there is a /proc."""
    if not Path("/proc/self/environ").exists():
        yield
        return
    before, mark = os.environ.get(MARK), f"{os.getpid()}-{uuid.uuid4().hex}"
    bare = {name: value for name, value in os.environ.items() if name != MARK}
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    watcher = subprocess.Popen(  # in a session of its own: no Ctrl-C and no SIGHUP of a terminal reaches it
        [sys.executable, "-I", "-S", "-c", _WATCH, str(os.getpid()), mark],
        env=bare,
        start_new_session=True,
        **quiet,  # type: ignore[call-overload]
    )
    os.environ[MARK] = mark
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(MARK, None)
        else:
            os.environ[MARK] = before
        watcher.kill()
        watcher.wait()
