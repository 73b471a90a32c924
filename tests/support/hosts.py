"""Hosts on one machine: network namespaces on a common switch, each with its own address, name, /tmp and cache.

Only root can make them, on Linux with `ip` and `unshare`.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_ENTER = """
mount --make-rprivate /
mount --bind "$0/hosts" /etc/hosts
mount --bind "$0" /tmp
exec "$@"
"""
"""Run in namespaces of mounts and names of its own: the host's folder becomes its /tmp."""


def why_no_hosts() -> str:
    """Why hosts cannot be made here; empty if they can."""
    if missing := [tool for tool in ("ip", "unshare", "hostname") if shutil.which(tool) is None]:
        return f"{' and '.join(missing)} is missing"
    if os.geteuid() != 0:
        return "only root can make network namespaces"
    tried = subprocess.run(["unshare", "--net", "--mount", "--uts", "true"], capture_output=True, text=True)
    return tried.stderr.strip() if tried.returncode else ""


class Host:
    """One host of a network."""

    def __init__(self, number: int, namespace: str, folder: Path) -> None:
        self.name, self.address = f"host-{number}", f"10.77.0.{number}"
        self.folder = folder
        """Its /tmp, seen from outside."""
        self._namespace = namespace

    def start(self, *command: str, variables: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        """Start a command on this host. Its output is a file in `folder`, whose name is the command's."""
        log = self.folder / f"{Path(command[0]).name}-{secrets.token_hex(3)}.log"
        environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
        environment |= {"TMPDIR": "/tmp", "SHAPING_CACHE": "/tmp/cache", **(variables or {})}
        script = f"hostname {self.name}; {_ENTER}"
        entered = ["ip", "netns", "exec", self._namespace, "unshare", "--mount", "--uts", "sh", "-c", script]
        with log.open("w") as file:
            process = subprocess.Popen(
                [*entered, str(self.folder), *command],
                cwd=ROOT,
                env=environment,
                stdout=file,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                text=True,
            )
        process.log = log  # type: ignore[attr-defined]
        return process

    def run(self, *command: str, timeout: float, variables: Mapping[str, str] | None = None) -> tuple[int, str]:
        """(exit status, output) of a command on this host. Raises: `subprocess.TimeoutExpired`, with the output."""
        process = self.start(*command, variables=variables)
        try:
            status = process.wait(timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise subprocess.TimeoutExpired(command, timeout, output_of(process)) from None
        return status, output_of(process)

    def shaping(self, *arguments: str) -> tuple[str, ...]:
        """The command line of the framework."""
        return (str(Path(sys.executable).parent / "shaping"), *arguments)

    def cut_off(self) -> None:
        """Its network is gone, while its processes live on."""
        _ip("-n", self._namespace, "link", "set", "eth0", "down")

    def end(self) -> None:
        """Kill all that runs on it."""
        for pid in _ip("netns", "pids", self._namespace).split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)


def output_of(process: subprocess.Popen[str]) -> str:
    """What a command has printed so far."""
    return process.log.read_text(errors="replace")  # type: ignore[attr-defined, no-any-return]


@contextlib.contextmanager
def hosts(count: int, folder: Path) -> Iterator[Sequence[Host]]:
    """Hosts 10.77.0.1 and following, which reach each other and nothing else. Keep one for later by not using it."""
    prefix = f"t{secrets.token_hex(3)}"
    names = [f"{prefix}-{number}" for number in range(1, count + 1)]
    switch = f"{prefix}-s"
    made: list[Host] = []
    try:
        _ip("netns", "add", switch)
        _ip("-n", switch, "link", "add", "br0", "type", "bridge")
        _ip("-n", switch, "link", "set", "br0", "up")
        for number, name in enumerate(names, start=1):
            own = folder / f"host-{number}"
            own.mkdir(parents=True)
            host = Host(number, name, own)
            _ip("netns", "add", name)
            made.append(host)
            _ip("-n", name, "link", "add", "eth0", "type", "veth", "peer", "name", f"p{number}", "netns", switch)
            _ip("-n", name, "addr", "add", f"{host.address}/24", "dev", "eth0")
            for device in ("lo", "eth0"):
                _ip("-n", name, "link", "set", device, "up")
            _ip("-n", switch, "link", "set", f"p{number}", "master", "br0")
            _ip("-n", switch, "link", "set", f"p{number}", "up")
        for host in made:
            known = "".join(f"{other.address} {other.name}\n" for other in made)
            (host.folder / "hosts").write_text(f"127.0.0.1 localhost\n{known}")
        yield made
    finally:
        for host in made:
            host.end()
        for name in (*names[: len(made)], switch):
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


def _ip(*arguments: str) -> str:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True)
    if done.returncode:
        raise OSError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout
