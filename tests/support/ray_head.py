"""A real Ray cluster with a token, of this machine's own processes, for tests that need one to be there already.

Ray reads the token once per process, so whatever talks to this cluster is a process of its own: `shaping`, `python`.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from waiting import patience, wait_until

BIN = Path(sys.executable).parent


class RayHead:
    """Addresses of a head that is up, and how another node joins it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port, self.client, self.dashboard, self.metrics = (_free_port() for _ in range(4))
        self.address = f"127.0.0.1:{self.port}"
        given = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(16)}
        active = {"PATH": f"{BIN}:{os.environ['PATH']}", "SHAPING_CACHE": str(folder / "cache")}
        self.environment = {**given, **token, **active, "OMP_NUM_THREADS": "1"}
        self._processes: list[subprocess.Popen[bytes]] = []

    @property
    def http(self) -> str:
        return f"http://127.0.0.1:{self.dashboard}"

    def shaping(self, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
        return self._ask([str(BIN / "shaping"), *map(str, arguments)], environment)

    def python(self, code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
        """Run a script; `sys.argv[1]` is the address of Ray, the arguments come behind it."""
        return self._ask([sys.executable, "-c", code, self.address, *map(str, arguments)], {})

    def _ask(self, command: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
        given = {**self.environment, **environment}
        return subprocess.run(command, capture_output=True, text=True, env=given, check=False, timeout=patience(200))

    def start(self) -> None:
        ports = {"port": self.port, "ray-client-server-port": self.client, "dashboard-port": self.dashboard}
        ports["metrics-export-port"] = self.metrics
        options = [f"--{name}={value}" for name, value in ports.items()]
        self._run(["--head", "--node-ip-address=127.0.0.1", f"--temp-dir={self.folder}", *options])

    def join(self, **environment: str) -> None:
        """A second node, whose workers have another environment."""
        self._run([f"--address={self.address}"], **environment)

    def stop(self) -> None:
        for process in reversed(self._processes):
            process.send_signal(signal.SIGTERM)
        for process in self._processes:
            try:
                process.wait(patience(20))
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)

    def _run(self, options: list[str], **environment: str) -> None:
        agent = f"--dashboard-agent-listen-port={_free_port()}"  # one port for all clusters of a machine otherwise
        sizes = [agent, "--num-cpus=1", "--object-store-memory=80000000", "--disable-usage-stats", "--block"]
        with (self.folder / "start.log").open("ab") as log:
            self._processes.append(
                subprocess.Popen(
                    [str(BIN / "ray"), "start", *options, *sizes],
                    stdout=log,
                    stderr=log,
                    env={**self.environment, **environment},
                    start_new_session=True,
                )
            )


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextmanager
def ray_head() -> Iterator[RayHead]:
    folder = Path(tempfile.mkdtemp(prefix="ray-"))  # not pytest's: a socket's path may have 107 characters
    head = RayHead(folder)
    try:
        head.start()
        wait_until(lambda: _answers(head) and _listens(head.dashboard))
        yield head
    finally:
        head.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _answers(head: RayHead) -> bool:
    return head._ask([str(BIN / "ray"), "health-check", "--address", head.address], {}).returncode == 0


def _listens(port: int) -> bool:
    """Whether the port takes connections. The dashboard comes up some seconds after the head."""
    with socket.socket() as asked:
        return asked.connect_ex(("127.0.0.1", port)) == 0
