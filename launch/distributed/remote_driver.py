"""A driver as a detached Ray actor, for clusters without a job server or with an unreachable dashboard."""

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
CONNECT_TRIES = 3
STOP_TIMEOUT = 30.0
"""Seconds that the driver has to stop cleanly."""


class Driver:
    """Runs one command in a temporary folder, on the head node. It keeps running when the submitter disconnects."""

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
                env={**_without_ray_variables(os.environ), **environment, "RAY_ADDRESS": address},
            )

    def status(self) -> tuple[str, int | None]:
        """Its output so far, and its exit code or None."""
        code = self._process.poll()
        return self._log.read_text(encoding="utf-8", errors="replace"), code

    def stop(self) -> None:
        """Stop the command cleanly, or kill it after `STOP_TIMEOUT` seconds."""
        self._process.terminate()
        try:
            self._process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._process.kill()


def _without_ray_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment without the variables that Ray sets for its workers: with them, the driver would act as a worker.

    The programs of this Python's environment come first in PATH, even if that environment is not active.
    """
    kept = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
    outside = {name: value for name, value in environment.items() if not name.startswith("RAY_") or name in kept}
    return outside | {"PATH": os.pathsep.join([os.path.dirname(sys.executable), outside.get("PATH", os.defpath)])}


class RayClient:
    """Jobs through a Ray connection: `ray://host:10001` from anywhere, `host:6379` from a node of the cluster."""

    def __init__(self, address: str) -> None:
        self.address = address
        os.environ.update(QUIET)
        for tries_left in reversed(range(CONNECT_TRIES)):
            try:
                ray.init(address=address, namespace=NAMESPACE, log_to_driver=False, logging_level="ERROR")
                return
            except (OSError, RuntimeError, ValueError, ImportError, ray.exceptions.RayError) as error:
                # The head starts a process per client; its port may have been taken in the meantime: try again.
                if not (isinstance(error, ConnectionAbortedError) and tries_left):
                    raise unreachable(address, error) from error

    def submit(self, submission: Submission) -> None:
        """Start the driver on the head node and send it the files."""
        driver: Any = ray.remote(num_cpus=0, max_restarts=0)(Driver)
        on_head = NodeAffinitySchedulingStrategy(_head(), soft=False)
        options = {"name": submission.id, "lifetime": "detached", "scheduling_strategy": on_head}
        files, command = archive(submission.folder), submission.command
        actor = driver.options(**options).remote(files, command, dict(submission.environment))
        try:
            ray.get(actor.status.remote(), timeout=120)
        except ray.exceptions.RayError as error:
            ray.kill(actor)
            raise UserError(
                f"the head of {self.address} does not start the driver: {str(error).strip().splitlines()[-1]}; is the "
                "same version of shaping installed there as here?"
            ) from error

    def status(self, job: str) -> JobStatus:
        """Output and exit code of the driver; its actor is removed once it has ended."""
        try:
            log, code = ray.get(ray.get_actor(job, NAMESPACE).status.remote(), timeout=60)
        except (ValueError, ray.exceptions.RayActorError) as error:
            reason = str(error).splitlines()[0]
            return JobStatus("", 1, f"the head died, and the driver with it ({reason}); launch the study again")
        if code is not None:
            ray.kill(ray.get_actor(job, NAMESPACE))
        return JobStatus(log, code, f"exit code {code}" if code else "")

    def stop(self, job: str) -> None:
        """Stop the driver."""
        actor = ray.get_actor(job, NAMESPACE)
        ray.get(actor.stop.remote(), timeout=STOP_TIMEOUT + 30)


def _head() -> str:
    """The node id of the head."""
    for node in ray.nodes():
        if node["Alive"] and "node:__internal_head__" in node["Resources"]:
            return str(node["NodeID"])
    raise UserError("the head of the cluster is not alive")
