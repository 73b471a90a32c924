"""A driver on the head of a Ray cluster that has no job server, or whose dashboard cannot be reached: one actor."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from launch.distributed.jobs import JobStatus, Submission
from launch.distributed.nodes import unreachable
from launch.distributed.run_worker import QUIET, archive, extract
from launch.errors import UserError

NAMESPACE = "shaping"
TRIES = 3
LATE = 30.0
"""Seconds that the driver may take to stop cleanly."""


class Driver:
    """Runs one command in a folder of its own. It lives on when whoever started it leaves."""

    def __init__(self, files: bytes, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="shaping-job-")
        home = Path(self._folder.name)
        extract(files, home / "work")
        self._log = home / "log"
        address = ray.get_runtime_context().gcs_address
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command,
                cwd=home / "work",
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**_outside(os.environ), **environment, "RAY_ADDRESS": address},
            )

    def look(self) -> tuple[str, int | None]:
        code = self._process.poll()
        return self._log.read_text(encoding="utf-8", errors="replace"), code

    def stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(LATE)
        except subprocess.TimeoutExpired:
            self._process.kill()


def _outside(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment without what Ray tells its own workers, which would make the driver take itself for one.

    Programs of this Python's environment come first, active or not.
    """
    kept = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
    found = {name: value for name, value in environment.items() if not name.startswith("RAY_") or name in kept}
    return found | {"PATH": os.pathsep.join([os.path.dirname(sys.executable), found.get("PATH", os.defpath)])}


class RayItself:
    """A cluster that is spoken to through Ray: `ray://host:10001` from anywhere, `host:6379` from one of its nodes."""

    def __init__(self, address: str) -> None:
        self.address = address
        os.environ.update(QUIET)
        for tries_left in reversed(range(TRIES)):
            try:
                ray.init(address=address, namespace=NAMESPACE, log_to_driver=False, logging_level="ERROR")
                return
            except (OSError, RuntimeError, ValueError, ImportError, ray.exceptions.RayError) as error:
                # the head starts a process for every client, which may find its port taken meanwhile
                if not (isinstance(error, ConnectionAbortedError) and tries_left):
                    raise unreachable(address, error) from error

    def submit(self, submission: Submission) -> None:
        driver: Any = ray.remote(num_cpus=0, max_restarts=0)(Driver)
        place = NodeAffinitySchedulingStrategy(_head(), soft=False)
        options = {"name": submission.id, "lifetime": "detached", "scheduling_strategy": place}
        files, command = archive(submission.folder), submission.command
        actor = driver.options(**options).remote(files, command, dict(submission.environment))
        try:
            ray.get(actor.look.remote(), timeout=120)
        except ray.exceptions.RayError as error:
            ray.kill(actor)
            raise UserError(
                f"the head of {self.address} does not start the driver: {str(error).strip().splitlines()[-1]}; is "
                "shaping installed there, in the version of this machine?"
            ) from error

    def look(self, job: str) -> JobStatus:
        try:
            log, code = ray.get(ray.get_actor(job, NAMESPACE).look.remote(), timeout=60)
        except (ValueError, ray.exceptions.RayActorError) as error:
            return JobStatus("", 1, f"the driver is gone with its head ({str(error).splitlines()[0]}); launch it again")
        if code is not None:
            ray.kill(ray.get_actor(job, NAMESPACE))
        return JobStatus(log, code, f"exit code {code}" if code else "")

    def stop(self, job: str) -> None:
        actor = ray.get_actor(job, NAMESPACE)
        ray.get(actor.stop.remote(), timeout=LATE + 30)


def _head() -> str:
    """The node id of the head."""
    for node in ray.nodes():
        if node["Alive"] and "node:__internal_head__" in node["Resources"]:
            return str(node["NodeID"])
    raise UserError("the cluster has no head that lives")
