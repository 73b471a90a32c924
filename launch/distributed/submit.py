"""Hand a study to a running Ray cluster, whose head then runs the driver: this machine is free to go."""

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
from launch.distributed.run_worker import ONE_THREAD, QUIET
from launch.errors import ConfigError, UserError

POLL = 1.0
SILENCE = 120.0
"""Seconds of failed questions after which a followed job is given up (it may well go on)."""
STARTING = 60.0
"""Seconds that a cluster which has just been started may take until it accepts jobs."""
LARGEST = 100_000_000
"""Bytes of a working directory: it is sent to the cluster whole."""
EXTRA = "pip install 'shaping[cluster]' there, on every node (docs/clusters.md)"
OURS = ONE_THREAD | QUIET


@contextlib.contextmanager
def prepared(
    config: str,
    overrides: Sequence[str] = (),
    *,
    arguments: Sequence[str] = (),
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> Iterator[Submission]:
    """The command and the files that run this study there. Raises `ConfigError` before anything is sent.

    `folder` is sent whole (the study and modules of your own); without it the study's file alone is.
    """
    study = load_study(config, overrides)
    _require_lasting_output(study)
    if taken := OURS.keys() & (environment or {}).keys():
        raise ConfigError(f"--env: {', '.join(sorted(taken))} cannot be set: workers are given {_shown(OURS, taken)}")
    job = f"shaping-{study.name}-{secrets.token_hex(3)}"
    with tempfile.TemporaryDirectory() as scratch:
        sent = Path(scratch) if folder is None else _checked(folder)
        path = find_study(config)
        if str(path) != config:  # a bundled study: it is there already
            named = config
        elif folder is None:
            named = shutil.copy(path, scratch).rpartition(os.sep)[2]
        elif path.resolve().is_relative_to(sent):
            named = str(path.resolve().relative_to(sent))
        else:
            raise ConfigError(f"{config} is not in the working directory {folder}, so the cluster would not have it")
        command = ["shaping", "study", named, *overrides, *arguments, "--address", "auto"]
        yield Submission(job, command, sent, dict(environment or {}))


def _require_lasting_output(study: StudyConfig) -> None:
    if not Path(study.output).is_absolute():
        raise ConfigError(
            f"output: {study.output!r} would be written into a folder of the job's own, which goes when it ends; name "
            "one that the cluster keeps, e.g. output=/mnt/shaping/runs (docs/clusters.md)"
        )


def _checked(folder: Path) -> Path:
    if not folder.is_dir():
        raise ConfigError(f"--working-dir: {folder} is no directory")
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    if size > LARGEST:
        raise ConfigError(
            f"--working-dir: {folder} has {size / 1e6:.0f} MB, and {LARGEST / 1e6:.0f} MB may be sent; give a folder "
            "with the study and your modules only, and put models and data on the cluster's shared disk"
        )
    return folder.resolve()


def _shown(values: Mapping[str, str], names: set[str]) -> str:
    return ", ".join(f"{name}={values[name]}" for name in sorted(names))


def environment_of(given: Sequence[str]) -> dict[str, str]:
    """`KEY=VALUE`, or `KEY` for the value that it has here."""
    found = {}
    for item in given:
        key, equals, value = item.partition("=")
        if not key or (not equals and key not in os.environ):
            raise ConfigError(f"--env: {item!r} is not KEY=VALUE, nor the name of a variable that is set here")
        found[key] = value if equals else os.environ[key]
    return found


def connect(address: str) -> JobClient:
    """`http(s)://host:8265`: the cluster's job server. `ray://host:10001`, `host:6379`: Ray itself."""
    if address.startswith(("http://", "https://")):
        return JobServer(address)
    from launch.distributed.remote_driver import RayItself

    return RayItself(address)


class JobServer:
    """The job server of a Ray dashboard."""

    def __init__(self, address: str) -> None:
        from ray.exceptions import AuthenticationError
        from ray.job_submission import JobSubmissionClient

        from launch.distributed.nodes import unreachable

        self.address = address
        try:
            self._client = JobSubmissionClient(address)
        except AuthenticationError as error:
            raise unreachable(address, error) from error
        except ConnectionError as error:
            raise UserError(
                f"no Ray dashboard answers at {address}: is the cluster up, and is that the port of the dashboard "
                f"(8265)? Without Ray's dashboard packages there is no job server: {EXTRA}. Or use "
                "--address ray://host:10001"
            ) from error
        except RuntimeError as error:
            raise UserError(_refusal(address, error)) from error

    def submit(self, submission: Submission) -> None:
        sent = {"working_dir": str(submission.folder), "env_vars": dict(submission.environment)}
        entry = shlex.join(submission.command)
        deadline = time.monotonic() + STARTING
        while True:
            try:
                self._client.submit_job(entrypoint=entry, submission_id=submission.id, runtime_env=sent)
                return
            except (RuntimeError, ConnectionError) as error:
                if "No available agent" not in str(error) or time.monotonic() > deadline:
                    raise UserError(_refusal(self.address, error)) from error
            time.sleep(POLL)  # the dashboard is up before the head's agent is

    def look(self, job: str) -> JobStatus:
        status = self._client.get_job_status(job)  # before the log: what is printed last is not missed
        log = self._client.get_job_logs(job)
        if not status.is_terminal():
            return JobStatus(log, None)
        done = str(status.value) == "SUCCEEDED"
        why = "" if done else f"{status.value}: {_reason(self._client.get_job_info(job).message or '')}"
        return JobStatus(log, 0 if done else 1, why)

    def stop(self, job: str) -> None:
        self._client.stop_job(job)


def _reason(message: str) -> str:
    """Ray's reason without the end of the log, which has been printed."""
    found = message.partition(", last available logs")[0].strip() or "no reason given"
    missing = "exit code 127" in found
    return found + "; was Ray started there with the environment active that has shaping?" * missing


def _refusal(address: str, error: Exception) -> str:
    if "404" in str(error) or "not supported" in str(error):
        return f"the Ray dashboard at {address} has no job server: {EXTRA}"
    return f"{address} does not take the job: {_first_line(error)}"


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


def follow(cluster: JobClient, job: str, write: Callable[[str], Any] | None = None) -> JobStatus:
    """Print what the job prints until it ends. Raises `UserError` if the cluster has not answered for long."""
    write = write or _print
    printed, heard = 0, time.monotonic()
    while True:
        try:
            status = cluster.look(job)
        except (RuntimeError, OSError) as error:
            if time.monotonic() - heard > SILENCE:
                raise UserError(
                    f"nothing is heard of {job} for {SILENCE:.0f} s ({_first_line(error)}); it may well go on"
                ) from error
        else:
            heard = time.monotonic()
            write(status.log[printed:])
            printed = max(printed, len(status.log))
            if status.code is not None:
                return status
        time.sleep(POLL)


def _print(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
