"""The Ray side of a study: one task per run, one CPU each, and an actor that collects the progress of the runs."""

from __future__ import annotations

import contextlib
import errno
import faulthandler
import hashlib
import importlib
import io
import os
import platform
import sys
import tarfile
import tempfile
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray

from envs.text import message_of, valid
from launch.config.model import HubModel
from launch.config.study import RunConfig
from launch.distributed.nodes import NodeError, skew
from launch.errors import DiskFullError, RunDirectoryError, UserError
from launch.storage.files import make_directory, safe
from launch.storage.rundir import RunDirectory
from launch.storage.versions import versions
from launch.terminal import SafeStream
from shaping.models.model_files import content_hash, hashes

Trainer = Callable[[RunConfig, Path, RunDirectory, Callable[[int, dict[str, Any]], None]], dict[str, Any]]

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
"""One thread per run: one run per core is faster than many threads per run, and results do not depend on cores."""
QUIET = {
    "TOKENIZERS_PARALLELISM": "false",
    "RAY_USAGE_STATS_ENABLED": "0",
    "TRANSFORMERS_VERBOSITY": "error",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
}
"""Environment variables that silence libraries."""


@dataclass(frozen=True)
class Job:
    """One run, as a worker needs it. Paths are those of the driver."""

    run: RunConfig
    """The run's config."""
    directory: Path
    """Its run directory."""
    log: Path
    """Its log file."""
    model: Path
    """The model that it starts from."""
    trainer: str
    """`module:function` with the signature of `Trainer`."""
    search_path: tuple[str, ...]
    """Folders in which the driver finds plug-in modules."""
    marker: tuple[Path, str]
    """A file of the study and its digest. A worker that cannot read it shares no disk with the driver."""
    model_hashes: Mapping[str, str]
    """Hashes of the model's files. A worker elsewhere may find another model at that path."""
    versions: Mapping[str, Any] | None = None
    """Versions that the worker's node must have; None: the worker runs on the driver's node."""

    @property
    def name(self) -> str:
        """`<arm>[+axis=value...]/seed-<k>`."""
        return self.run.directory_name


@dataclass(frozen=True)
class TaskResult:
    """How a run ended, as plain data: exceptions of plug-ins need not unpickle on the driver."""

    error: str = ""
    """The message; empty if the run finished."""
    details: str = ""
    """The traceback."""
    disk_full: bool = False
    """Was the disk full?"""
    retry: bool = False
    """May a second try succeed?"""
    archive: bytes = b""
    """The finished run directory as a tar file, if the worker shares no disk with the driver."""


@ray.remote(num_cpus=0, max_restarts=-1)
class ProgressActor:
    """Collects the latest progress of every run."""

    def __init__(self) -> None:
        self._latest: dict[str, tuple[int, dict[str, Any]]] = {}

    def post(self, name: str, done: int, row: dict[str, Any]) -> None:
        """`done` updates of the run `name` are finished; `row` holds metrics of the last."""
        self._latest[name] = (done, row)

    def take(self) -> dict[str, tuple[int, dict[str, Any]]]:
        """The progress that was posted since the last call, by run."""
        latest, self._latest = self._latest, {}
        return latest


@ray.remote(num_cpus=1, max_retries=0)
def execute(job: Job, progress: Any, shipped: list[Any]) -> TaskResult:
    """Execute one run in a worker process. `shipped` refers to the packed model, for nodes that lack its directory."""
    os.environ.update(ONE_THREAD | QUIET)
    local = _digest_of(job.marker[0]) == job.marker[1]

    def report(update: int, row: dict[str, Any]) -> None:
        progress.post.remote(job.name, update + 1, {"reward": row.get("reward")})

    with contextlib.ExitStack() as stack:
        home = job.directory if local else Path(stack.enter_context(tempfile.TemporaryDirectory())) / "run"
        stack.enter_context(_logging(job.log if local else None))
        try:
            if job.versions and (differing := skew(job.versions, versions())):
                raise NodeError(f"{platform.node()}: {'; '.join(differing)}")
            model = _model_here(job, local=local) or extract_model(ray.get(shipped[0]))
            train(job, model, RunDirectory(home), report)
            return TaskResult(archive=b"" if local else archive(home))
        except Exception as error:  # the driver decides what to do about it
            return failure(error)


def _model_here(job: Job, *, local: bool) -> Path | None:
    """The run's model on this machine: where the driver has it, or at the same commit in this machine's cache."""
    if job.model.exists() and (local or hashes(job.model) == job.model_hashes):
        return job.model
    from launch.run.models.start_model import on_hub, present_model  # imports torch and transformers

    if not job.run.commit or (hub := on_hub(job.run.model)) is None:
        return None
    with contextlib.suppress(UserError):
        found = present_model(HubModel(hub=hub.hub, revision=job.run.commit))
        return found if found is not None and hashes(found) == job.model_hashes else None
    return None


def failure(error: Exception) -> TaskResult:
    """The result of a failed run. A `UserError` keeps its message and is not tried again; others are named by class."""
    full = isinstance(error, DiskFullError) or getattr(error, "errno", None) == errno.ENOSPC
    text = message_of(error)
    full = full or "os error 28" in text  # libraries written in Rust raise other classes
    message = text if isinstance(error, UserError) else f"{type(error).__name__}: {text}"
    return TaskResult(message, valid(traceback.format_exc()), disk_full=full, retry=not isinstance(error, UserError))


def train(job: Job, model: Path, directory: RunDirectory, on_update: Callable[[int, dict[str, Any]], None]) -> None:
    """Call the trainer in this process, with the run directory locked against other processes."""
    sys.path += [entry for entry in job.search_path if entry not in sys.path]
    trainer = load_function(job.trainer)
    if (torch := sys.modules.get("torch")) is not None:
        torch.set_num_threads(1)
    with directory.locked():
        trainer(job.run, model, directory, on_update)
        if directory.status() != "complete":
            raise RuntimeError(f"{job.trainer} returned without finishing {directory.path}")


def load_function(path: str) -> Any:
    """Import `module:function`."""
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)


@contextlib.contextmanager
def _logging(path: Path | None) -> Iterator[None]:
    """Redirect output to the log file, and the stacks of a worker that crashes; None: leave it."""
    if path is None:
        yield
        return
    make_directory(path.parent)
    with safe(path).open("a", encoding="utf-8", buffering=1) as log:
        with contextlib.suppress(RuntimeError, ValueError):
            faulthandler.enable(log)
        try:
            shown: Any = SafeStream(log)
            with contextlib.redirect_stdout(shown), contextlib.redirect_stderr(shown):
                yield
        finally:
            faulthandler.disable()


def archive(directory: Path, *, follow: bool = False) -> bytes:
    """Pack a directory into an uncompressed tar file in memory. `follow`: what links point to instead of the links."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", dereference=follow) as archive:
        archive.add(directory, arcname=".")
    return buffer.getvalue()


def archive_model(directory: Path) -> bytes:
    """Pack a model. A snapshot of the hub's cache consists of links out of its directory."""
    return archive(directory, follow=True)


def extract(data: bytes, directory: Path) -> None:
    """Unpack what `archive` packed."""
    directory.mkdir(parents=True, exist_ok=True)
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        archive.extractall(directory, filter="data")


def receive(data: bytes, directory: Path) -> None:
    """Move a run that finished on another machine into its run directory, atomically."""
    make_directory(directory.parent)
    temporary = Path(tempfile.mkdtemp(prefix=".tmp-", dir=directory.parent))
    extract(data, temporary)
    RunDirectory(directory).vacate(temporary)
    os.replace(temporary, directory)


def extract_model(data: bytes) -> Path:
    """Unpack a shipped model, once per node. Returns its directory."""
    key = hashlib.blake2b(data, digest_size=8).hexdigest()
    target = Path(tempfile.gettempdir()) / f"shaping-model-{os.getuid()}-{key}"
    if not target.exists():
        temporary = Path(tempfile.mkdtemp(dir=target.parent))
        extract(data, temporary)
        with contextlib.suppress(OSError):  # another worker of this node has just done it
            os.rename(temporary, target)
    return target


def _digest_of(path: Path) -> str:
    try:
        return content_hash(path)
    except OSError:
        return ""


def marker_of(path: Path) -> tuple[Path, str]:
    """A file and its digest, with which a worker checks that it shares the driver's disk."""
    return path, _digest_of(path)


def log_line(path: Path, text: str) -> None:
    """Append text to a log file; ignored if it cannot be written."""
    with contextlib.suppress(OSError, RunDirectoryError):
        make_directory(path.parent)
        with safe(path).open("a", encoding="utf-8") as log:
            SafeStream(log).write(text.rstrip() + "\n")
