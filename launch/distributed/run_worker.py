"""The Ray side of a study: one task per run, one CPU each, and an actor to which runs report their progress."""

from __future__ import annotations

import contextlib
import errno
import faulthandler
import hashlib
import importlib
import io
import os
import platform
import shutil
import sys
import tarfile
import tempfile
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray

from launch.config.study import RunConfig
from launch.distributed.nodes import NodeError, skew
from launch.errors import DiskFullError, UserError
from launch.storage.rundir import RunDirectory
from launch.storage.versions import versions

Trainer = Callable[[RunConfig, Path, RunDirectory, Callable[[int, dict[str, Any]], None]], dict[str, Any]]

#: One thread per run: as many runs as cores are faster than many threads in each, and results do not depend on cores.
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
QUIET = {"TOKENIZERS_PARALLELISM": "false", "RAY_USAGE_STATS_ENABLED": "0", "TRANSFORMERS_VERBOSITY": "error"}


@dataclass(frozen=True)
class Job:
    """Everything a worker needs to know about one run. Paths are the driver's."""

    run: RunConfig
    directory: Path
    log: Path
    model: Path
    trainer: str
    """`module:function` with the signature of `Trainer`."""
    search_path: tuple[str, ...]
    """Where the driver finds plug-in modules."""
    marker: tuple[Path, str]
    """A file of the study and its digest: a worker that does not see it shares no disk with the driver."""
    versions: Mapping[str, Any] | None = None
    """What the worker's node must have, too; None: it is the driver's own."""

    @property
    def name(self) -> str:
        return self.run.directory_name


@dataclass(frozen=True)
class TaskResult:
    """How a run ended, as plain data: exceptions of plug-ins need not unpickle on the driver."""

    error: str = ""
    details: str = ""
    disk_full: bool = False
    retry: bool = False
    archive: bytes = b""
    """The finished run directory as a tar file, where the worker shares no disk with the driver."""


@ray.remote(num_cpus=0, max_restarts=-1)
class ProgressActor:
    """The latest word of every running run."""

    def __init__(self) -> None:
        self._latest: dict[str, tuple[int, dict[str, Any]]] = {}

    def post(self, name: str, done: int, row: dict[str, Any]) -> None:
        self._latest[name] = (done, row)

    def take(self) -> dict[str, tuple[int, dict[str, Any]]]:
        latest, self._latest = self._latest, {}
        return latest


@ray.remote(num_cpus=1, max_retries=0)
def execute(job: Job, progress: Any, shipped: list[Any]) -> TaskResult:
    """One run in a worker process. `shipped` holds a reference to the packed model, fetched only if it is not here."""
    os.environ.update(ONE_THREAD | QUIET)
    local = _digest_of(job.marker[0]) == job.marker[1]

    def report(update: int, row: dict[str, Any]) -> None:
        progress.post.remote(job.name, update + 1, {"reward": row.get("reward")})

    with contextlib.ExitStack() as stack:
        home = job.directory if local else Path(stack.enter_context(tempfile.TemporaryDirectory())) / "run"
        stack.enter_context(_logging(job.log if local else None))
        try:
            if job.versions and (found := skew(job.versions, versions())):
                raise NodeError(f"{platform.node()}: {'; '.join(found)}")
            model = job.model if job.model.exists() else extract_model(ray.get(shipped[0]))
            train(job, model, RunDirectory(home), report)
            return TaskResult(archive=b"" if local else archive(home))
        except Exception as error:  # the driver decides what to do about it
            return failure(error)


def failure(error: Exception) -> TaskResult:
    """A user's error stays as it is and is not worth a second try; any other is named by its class."""
    full = isinstance(error, DiskFullError) or getattr(error, "errno", None) == errno.ENOSPC
    full = full or "os error 28" in str(error)  # as libraries written in Rust put it
    told = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
    return TaskResult(told, traceback.format_exc(), disk_full=full, retry=not isinstance(error, UserError))


def train(job: Job, model: Path, directory: RunDirectory, on_update: Callable[[int, dict[str, Any]], None]) -> None:
    """Run the trainer in this process, in a run directory that no other process writes meanwhile."""
    for place in job.search_path:
        if place not in sys.path:
            sys.path.append(place)
    trainer = load_function(job.trainer)
    if (torch := sys.modules.get("torch")) is not None:
        torch.set_num_threads(1)
    with directory.held():
        trainer(job.run, model, directory, on_update)
        if directory.status() != "complete":
            raise RuntimeError(f"{job.trainer} returned without finishing {directory.path}")


def load_function(path: str) -> Any:
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)


@contextlib.contextmanager
def _logging(path: Path | None) -> Iterator[None]:
    """What a run prints goes to its log, and so does the stack of a worker that crashes."""
    if path is None:
        yield
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8", buffering=1) as log:
        with contextlib.suppress(RuntimeError, ValueError):
            faulthandler.enable(log)
        try:
            with contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
                yield
        finally:
            faulthandler.disable()


def archive(directory: Path) -> bytes:
    """A directory as an uncompressed tar file in memory."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.add(directory, arcname=".")
    return buffer.getvalue()


def extract(data: bytes, directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        archive.extractall(directory, filter="data")


def receive(data: bytes, directory: Path) -> None:
    """Put a run that finished on another machine in its place, all or nothing."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=".tmp-", dir=directory.parent))
    extract(data, temporary)
    shutil.rmtree(directory, ignore_errors=True)
    os.replace(temporary, directory)


def extract_model(data: bytes) -> Path:
    """The shipped model on this node, unpacked once."""
    key = hashlib.blake2b(data, digest_size=8).hexdigest()
    target = Path(tempfile.gettempdir()) / f"shaping-model-{os.getuid()}-{key}"
    if not target.exists():
        temporary = Path(tempfile.mkdtemp(dir=target.parent))
        extract(data, temporary)
        with contextlib.suppress(OSError):  # another worker of this node was quicker
            os.rename(temporary, target)
    return target


def _digest_of(path: Path) -> str:
    try:
        return hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()
    except OSError:
        return ""


def marker_of(path: Path) -> tuple[Path, str]:
    return path, _digest_of(path)


def log_line(path: Path, text: str) -> None:
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as log:
            log.write(text.rstrip() + "\n")
