"""The sockets that listen in a process and in everything it has started, and a run that tells its own.

`python listening.py CONFIG MODEL FOLDER` trains the first run of a study and writes those of its first update to
FOLDER/listeners.json.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import psutil


class Listener(NamedTuple):
    process: str
    """`driver` for the root of the tree, else the name of the process or of the script that it runs."""
    address: str
    port: int


def listeners(root: int) -> list[Listener]:
    """TCP sockets that listen, and bound UDP sockets."""
    found: list[Listener] = []
    first = psutil.Process(root)
    for process in [first, *first.children(recursive=True)]:
        try:
            name = "driver" if process.pid == root else _name(process)
            found += [
                Listener(name, socket.laddr.ip.removeprefix("::ffff:"), socket.laddr.port)
                for socket in process.net_connections(kind="inet")
                if socket.status == psutil.CONN_LISTEN or (socket.laddr and not socket.raddr and socket.type == 2)
            ]
        except psutil.NoSuchProcess:
            continue
    return sorted(set(found))


def _name(process: psutil.Process) -> str:
    scripts = [Path(word).name for word in process.cmdline()[1:4] if word.endswith(".py")]
    return scripts[0] if scripts else process.name().partition(".")[0]


def listeners_of_run(study: dict[str, Any], model: Path, folder: Path, timeout: float) -> list[Listener]:
    """Train the study's first run in a process of its own; what listened there after the first update."""
    ours = [sys.executable, __file__, json.dumps(study), str(model), str(folder)]
    search = os.pathsep.join([os.getcwd(), str(Path(__file__).parent)])
    environment = {**os.environ, "PYTHONPATH": search}
    done = subprocess.run(ours, capture_output=True, text=True, env=environment, timeout=timeout, check=False)
    assert done.returncode == 0, done.stderr
    return [Listener(*found) for found in json.loads((folder / "listeners.json").read_text())]


def _main(study: str, model: str, folder: str) -> None:
    from launch.config.loading import parse_study
    from launch.distributed.local import RaySettings, running_ray
    from launch.run.execute import execute
    from launch.storage.rundir import RunDirectory

    run = parse_study(json.loads(study), "test").runs()[0]
    found: list[Listener] = []

    def look(*_: Any) -> None:
        found.extend(listeners(os.getpid()))

    def go() -> None:
        execute(run, Path(model), RunDirectory(Path(folder) / "run"), look)

    if run.rollout.workers or run.train.learner_group.ranks > 1:
        with running_ray(RaySettings(cpus=4)):
            go()
    else:
        go()
    (Path(folder) / "listeners.json").write_text(json.dumps(sorted(set(found))))


if __name__ == "__main__":
    _main(*sys.argv[1:])
