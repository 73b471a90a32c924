"""Submit a study to a running Ray cluster. Its head runs the driver, so this machine may disconnect."""

from __future__ import annotations

import contextlib
import os
import secrets
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from launch.config.loading import find_study, load_study
from launch.config.study import StudyConfig
from launch.distributed.jobs import JobClient, JobStatus, Submission
from launch.distributed.reachable import check_reachable, named
from launch.distributed.run_worker import ONE_THREAD, QUIET
from launch.errors import ConfigError, UserError
from launch.terminal import SafeStream, raw

POLL = 1.0
"""Seconds between two requests for the status of a job."""
SILENCE_TIMEOUT = 120.0
"""Seconds without an answer after which a job is no longer followed. The job itself may still run."""
START_TIMEOUT = 60.0
"""Seconds that a newly started cluster has until it accepts jobs."""
MAX_FOLDER_BYTES = 100_000_000
"""Largest working directory; it is sent to the cluster as a whole."""
EXTRA = "pip install 'shaping[cluster]' there, on every node (docs/clusters.md)"
RESERVED = ONE_THREAD | QUIET
"""Environment variables that every worker gets."""


@contextlib.contextmanager
def prepared(
    config: str,
    overrides: Sequence[str] = (),
    *,
    arguments: Sequence[str] = (),
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> Iterator[Submission]:
    """The command and the files that run a study on a cluster. Nothing is sent yet.

    Args:
        config: A study's YAML file, or the name of a bundled study.
        overrides: `key.path=value` overrides.
        arguments: Further arguments of `shaping study`.
        folder: A folder with the study and your own modules, sent as a whole; None: only the study's file is sent.
        environment: Environment variables of the command.

    Raises:
        ConfigError: The study cannot run there as given.
    """
    study = load_study(config, overrides)
    _require_lasting_output(study)
    if taken := RESERVED.keys() & (environment or {}).keys():
        names = ", ".join(sorted(taken))
        raise ConfigError(f"--env: {names} cannot be set: workers always get {_shown(RESERVED, taken)}")
    job = f"shaping-{study.name}-{secrets.token_hex(3)}"
    with tempfile.TemporaryDirectory() as scratch:
        sent = Path(scratch) if folder is None else _check_folder(folder)
        path = find_study(config)
        if str(path) != config:  # a bundled study, which the cluster has
            named = config
        elif folder is None:
            named = shutil.copy(path, scratch).rpartition(os.sep)[2]
        elif path.resolve().is_relative_to(sent):
            named = str(path.resolve().relative_to(sent))
        else:
            raise ConfigError(f"{config} is not in the working directory {folder}, so the cluster would lack it")
        command = ["shaping", "study", named, *overrides, *arguments, "--address", "auto"]
        yield Submission(job, command, sent, dict(environment or {}))


def _require_lasting_output(study: StudyConfig) -> None:
    if not study.output.startswith("~") and not Path(study.output).is_absolute():
        raise ConfigError(
            f"output: {study.output!r} is relative to the job's temporary folder, which is deleted when the job ends; "
            "give a folder that the cluster keeps, e.g. output=/mnt/shaping/runs (docs/clusters.md)"
        )


def _check_folder(folder: Path) -> Path:
    if not folder.is_dir():
        raise ConfigError(f"--working-dir: {folder} is not a directory")
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    if size > MAX_FOLDER_BYTES:
        raise ConfigError(
            f"--working-dir: {folder} has {size / 1e6:.0f} MB, and at most {MAX_FOLDER_BYTES / 1e6:.0f} MB are sent; "
            "give a folder with only the study and your modules, and put models and data on the cluster's shared disk"
        )
    return folder.resolve()


def _shown(values: Mapping[str, str], names: set[str]) -> str:
    return ", ".join(f"{name}={values[name]}" for name in sorted(names))


def environment_of(given: Sequence[str]) -> dict[str, str]:
    """Parse `--env` options: `KEY=VALUE`, or `KEY` for its value on this machine."""
    environment = {}
    for item in given:
        key, equals, value = item.partition("=")
        if not key or (not equals and key not in os.environ):
            raise ConfigError(f"--env: {item!r} is neither KEY=VALUE nor the name of a variable that is set here")
        environment[key] = value if equals else os.environ[key]
    return environment


def connect(address: str) -> JobClient:
    """Connect to a cluster: its job server (`http(s)://host:8265`), or Ray (`ray://host:10001`, `host:6379`)."""
    if address.startswith(("http://", "https://")):
        return JobServer(address)
    check_reachable(address)
    from launch.distributed.remote_driver import RayClient

    return RayClient(address)


class JobServer:
    """Jobs through the job server of a Ray dashboard."""

    def __init__(self, address: str) -> None:
        from ray.exceptions import AuthenticationError
        from ray.job_submission import JobSubmissionClient

        from launch.distributed.nodes import unreachable

        self.address = address
        try:
            check_reachable(address, patience=0.0)
        except UserError as error:
            raise _no_dashboard(address) from error
        try:
            self._client = JobSubmissionClient(address)
        except AuthenticationError as error:
            raise unreachable(address, error) from error
        except ConnectionError as error:
            raise _no_dashboard(address) from error
        except RuntimeError as error:
            raise UserError(_refusal(address, error)) from error

    def submit(self, submission: Submission) -> None:
        """Start the job; waits while a new cluster is not ready yet."""
        sent = {"working_dir": str(submission.folder), "env_vars": dict(submission.environment)}
        entry = shlex.join(submission.command)
        deadline = time.monotonic() + START_TIMEOUT
        while True:
            try:
                self._client.submit_job(entrypoint=entry, submission_id=submission.id, runtime_env=sent)
                return
            except (RuntimeError, ConnectionError) as error:
                if "No available agent" not in str(error) or time.monotonic() > deadline:
                    raise UserError(_refusal(self.address, error)) from error
            time.sleep(POLL)  # the dashboard starts before the agent of the head

    def status(self, job: str) -> JobStatus:
        """The log and state of the job."""
        status = self._client.get_job_status(job)  # before the log, so that the last lines are not missed
        log = self._client.get_job_logs(job)
        if not status.is_terminal():
            return JobStatus(log, None)
        done = str(status.value) == "SUCCEEDED"
        reason = "" if done else f"{status.value}: {_reason(self._client.get_job_info(job).message or '')}"
        return JobStatus(log, 0 if done else 1, reason)

    def stop(self, job: str) -> None:
        """Ask the job to stop."""
        self._client.stop_job(job)


def _no_dashboard(address: str) -> UserError:
    return UserError(
        f"no Ray dashboard answers at {named(address)}: is the cluster up, and is that the port of the dashboard "
        f"(8265)? The job server needs Ray's dashboard packages: {EXTRA}. Or use --address ray://host:10001"
    )


def _reason(message: str) -> str:
    """Ray's reason, without the end of the log, which is printed anyway."""
    reason = message.partition(", last available logs")[0].strip() or "no reason given"
    missing = "exit code 127" in reason
    return reason + "; was Ray started there in the environment that has shaping?" * missing


def _refusal(address: str, error: Exception) -> str:
    if "404" in str(error) or "not supported" in str(error):
        return f"the Ray dashboard at {address} has no job server: {EXTRA}"
    return f"{address} does not accept the job: {_first_line(error)}"


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


def follow(cluster: JobClient, job: str, write: Callable[[str], Any] | None = None) -> JobStatus:
    """Pass the output of a job to `write` (default: stdout) until it ends.

    Raises `UserError` if the cluster has not answered for `SILENCE_TIMEOUT` seconds.
    """
    write = write or _print
    printed, last_answer = 0, time.monotonic()
    while True:
        try:
            status = cluster.status(job)
        except (RuntimeError, OSError) as error:
            if time.monotonic() - last_answer > SILENCE_TIMEOUT:
                raise UserError(
                    f"{job}: no answer from the cluster for {SILENCE_TIMEOUT:.0f} s ({_first_line(error)}); the job "
                    "may still run"
                ) from error
        else:
            last_answer = time.monotonic()
            write(status.log[printed:])
            printed = max(printed, len(status.log))
            if status.code is not None:
                return status
        time.sleep(POLL)


def _print(text: str) -> None:
    stream = SafeStream(raw(sys.stdout), None)
    stream.write(text)
    stream.flush()
