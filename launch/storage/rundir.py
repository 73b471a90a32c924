"""One training run on disk: written as it goes, marked complete last, never pickled. Layout: docs/run-directory.md."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import math
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from launch.config.study import digest
from launch.errors import DiskFullError, RunDirectoryError

if TYPE_CHECKING:
    from envs.episode import Episode

FORMAT, VERSION = "shaping-run", 1
LOCK = ".lock"
STATE = "state"
TIMINGS = "timings.jsonl"
Status = Literal["absent", "complete", "partial", "foreign"]


class RunDirectory:
    """The files of one run: `create` first, then `metrics`, `evaluation`, `episodes` and `checkpoint`, `finish` last.

    A run that was killed in between is `partial`. `create` wipes it; `rewind` returns it to a `mark`, from which it
    can resume.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)

    @property
    def checkpoint(self) -> Path:
        """Folder of the policy after the last update (Hugging Face layout)."""
        return self.path / "checkpoint"

    @property
    def state(self) -> Path:
        """Folder of the training states of an unfinished run (`launch.storage.checkpoint`)."""
        return self.path / STATE

    def status(self) -> Status:
        """`partial` is a run that is unfinished, truncated, or changed after its end; `foreign` is not a run."""
        if not self._contents():
            return "absent"
        if read_marked(self.path / "run.json", FORMAT) is None:
            return "foreign" if any(not entry.startswith(".tmp-") for entry in self._contents()) else "partial"
        result = self.result()
        return "complete" if result and result["files"] == self._sizes() else "partial"

    def config(self) -> dict[str, Any]:
        """The resolved config of the run (a `launch.config.study.RunConfig`)."""
        document = read_marked(self.path / "run.json", FORMAT)
        if document is None:
            raise RunDirectoryError(f"{self.path} is not a run directory: it has no intact run.json")
        return dict(document["config"])

    def result(self) -> dict[str, Any] | None:
        """result.json of a finished run, or None if it is absent or its checksum does not match."""
        document = read_marked(self.path / "result.json", FORMAT)
        if document is None or document.get("checksum") != _checksum(document):
            return None
        return document

    def create(self, config: Mapping[str, Any], versions: Mapping[str, Any]) -> None:
        """Start a run, and wipe a half-written one. Raises `RunDirectoryError` for a finished run and foreign files."""
        status = self.status()
        if status == "foreign":
            raise RunDirectoryError(
                f"{self.path} is not empty and is not a run directory; choose another `output` or `name`, or empty it"
            )
        if status == "complete":
            raise RunDirectoryError(f"{self.path} holds a finished run; move it away before running it again")
        with disk_errors(self.path):
            for entry in sorted(self._contents(), key="run.json".__eq__):  # run.json last: it marks the run directory
                _remove(self.path / entry)
            self.path.mkdir(parents=True, exist_ok=True)
            marked = {"format": FORMAT, "version": VERSION, "config": config, "versions": versions}
            write_json(self.path / "run.json", marked)
            (self.path / "metrics.jsonl").touch()

    def metrics(self, row: Mapping[str, Any]) -> None:
        """Append one line to metrics.jsonl and flush it, so that a killed run keeps its metrics."""
        self._append("metrics.jsonl", row)

    def timings(self, row: Mapping[str, Any]) -> None:
        """Append one line to timings.jsonl. Wall times are kept apart from the reproducible files."""
        self._append(TIMINGS, row)

    def rows(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl, with nan for null."""
        lines = (self.path / "metrics.jsonl").read_bytes().splitlines()
        return [{k: math.nan if v is None else v for k, v in json.loads(line).items()} for line in lines]

    def mark(self) -> dict[str, Any]:
        """Flush the files to disk and describe them, for a later `rewind` to this point."""
        with disk_errors(self.path), (self.path / "metrics.jsonl").open("rb") as file:
            os.fsync(file.fileno())
            written = file.read()
            if (self.path / "episodes").is_dir():
                sync(self.path / "episodes")
        return {"rows": written.count(b"\n"), "metrics": _fingerprint(written), "episodes": self._episode_files()}

    def rewind(self, mark: Mapping[str, Any]) -> str:
        """Remove everything written since `mark`. If older files are damaged, return how, and change nothing."""
        with disk_errors(self.path):
            if lost := self._lost(mark):
                return lost
            for entry in self._contents():
                if entry not in ("run.json", "metrics.jsonl", "episodes", TIMINGS, STATE):
                    _remove(self.path / entry)
            for path in (self.path / "episodes").glob("*"):
                if path.name not in mark["episodes"]:
                    _remove(path)
            self._cut(mark["rows"])
        return ""

    def evaluation(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write eval.jsonl. In a finished run it is replaced, and the run stays complete."""
        with disk_errors(self.path), self._resealed():
            write_text(self.path / "eval.jsonl", "".join(dumps(row) + "\n" for row in rows))

    def episodes(self, name: str, episodes: Sequence[Episode]) -> None:
        """Write `episodes/<name>.parquet`."""
        from envs.store import write_episodes

        folder = self.path / "episodes"
        with disk_errors(self.path), self._resealed():
            folder.mkdir(exist_ok=True)
            temporary = folder / f".tmp-{name}.parquet"
            write_episodes(temporary, episodes)
            sync(temporary)
            os.replace(temporary, folder / f"{name}.parquet")

    def finish(self, result: Mapping[str, Any]) -> None:
        """Write result.json atomically. Then the run is complete."""
        document = {**result, "format": FORMAT, "version": VERSION, "files": self._sizes()}
        document = json.loads(dumps(document))  # the checksum is of the JSON that a reader parses
        with disk_errors(self.path):
            write_json(self.path / "result.json", {**document, "checksum": _checksum(document)})
        self.forget_state()

    def forget_state(self) -> None:
        """Remove the training states, which a finished run does not need."""
        shutil.rmtree(self.state, ignore_errors=True)

    @contextlib.contextmanager
    def locked(self, patience: float = 30.0) -> Iterator[None]:
        """Hold the lock of the directory. Waits up to `patience` seconds, e.g. for a worker whose driver was killed.

        Raises `RunDirectoryError` if another process keeps the lock.
        """
        with disk_errors(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / LOCK).open("a") as file:
            deadline = time.monotonic() + patience
            while not try_lock(file.fileno()):
                if time.monotonic() > deadline:
                    raise RunDirectoryError(f"{self.path} is being written by another process; wait for it or stop it")
                time.sleep(0.2)
            yield

    def _contents(self) -> list[str]:
        if not self.path.exists():
            return []
        if not self.path.is_dir():
            raise RunDirectoryError(f"{self.path} is a file, not a run directory; choose another `output` or move it")
        return sorted(entry for entry in os.listdir(self.path) if entry != LOCK)

    def _sizes(self) -> dict[str, int]:
        """Size of every file of the run: enough to notice a truncated or missing file."""
        files = (p for p in self.path.rglob("*") if p.is_file() and p.name != LOCK and not p.name.startswith(".tmp-"))
        paths = {p.relative_to(self.path).as_posix(): p for p in files}
        checked = sorted(n for n in paths if n not in ("result.json", TIMINGS) and not n.startswith(f"{STATE}/"))
        return {name: paths[name].stat().st_size for name in checked}

    def _append(self, name: str, row: Mapping[str, Any]) -> None:
        with disk_errors(self.path), (self.path / name).open("a", encoding="utf-8") as file:
            file.write(dumps(row) + "\n")

    def _episode_files(self) -> dict[str, int]:
        return {p.name: p.stat().st_size for p in sorted((self.path / "episodes").glob("*.parquet"))}

    def _lost(self, mark: Mapping[str, Any]) -> str:
        """How the files differ from what `mark` recorded; empty if they do not."""
        path = self.path / "metrics.jsonl"
        lines = path.read_bytes().splitlines(keepends=True) if path.is_file() else []
        if _fingerprint(b"".join(lines[: mark["rows"]])) != mark["metrics"]:
            return f"metrics.jsonl no longer begins with the {mark['rows']} rows written before it"
        files = self._episode_files()
        lost = [name for name, size in mark["episodes"].items() if files.get(name) != size]
        return f"episodes/{lost[0]} has changed or is missing" if lost else ""

    def _cut(self, rows: int) -> None:
        """Cut metrics.jsonl to `rows` lines, and timings.jsonl to the lines of the same updates."""
        metrics, timings = self.path / "metrics.jsonl", self.path / TIMINGS
        write_bytes(metrics, b"".join(metrics.read_bytes().splitlines(keepends=True)[:rows]))
        lines = timings.read_bytes().splitlines(keepends=True) if timings.is_file() else []
        whole = [line for line in lines if line.endswith(b"\n")]
        write_bytes(timings, b"".join(line for line in whole if json.loads(line).get("update", rows) < rows))

    @contextlib.contextmanager
    def _resealed(self) -> Iterator[None]:
        """Keep a finished run complete while one of its files is replaced."""
        result = self.result() if self.status() == "complete" else None
        yield
        if result is not None:
            self.finish(result)


def dumps(document: Any) -> str:
    """Strict JSON: non-finite numbers become null, numpy scalars and arrays become numbers and lists."""
    return json.dumps(_finite(document), allow_nan=False, ensure_ascii=False)


def _finite(value: Any) -> Any:
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value


def _fingerprint(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def _remove(path: Path) -> None:
    """Remove a file, a link, or a folder with its contents. Links are not followed."""
    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def _checksum(document: Mapping[str, Any]) -> str:
    return digest({key: value for key, value in document.items() if key != "checksum"})


def write_json(path: Path, document: Any) -> None:
    """Write indented strict JSON atomically."""
    write_text(path, json.dumps(_finite(document), indent=1, allow_nan=False, ensure_ascii=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file atomically: a reader sees the old file or the new one."""
    temporary = path.with_name(f".tmp-{os.getpid()}-{path.name}")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Flush a file, or the entries of a directory, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # EINVAL: the file system cannot flush directories
            raise
    finally:
        os.close(descriptor)


def read_marked(path: Path, kind: str) -> dict[str, Any] | None:
    """A JSON object with the format marker `kind`, or None if it is absent, damaged or foreign.

    Raises `RunDirectoryError` for another version of the format.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(document, dict) or document.get("format") != kind:
        return None
    if document.get("version") != VERSION:
        raise RunDirectoryError(
            f"{path} has version {document.get('version')} of the format, this program reads {VERSION}; "
            "use the version of the program that wrote it"
        )
    return document


def try_lock(descriptor: int) -> bool:
    """Take an advisory lock, released when the process ends. Always True on file systems without locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
            raise
    return True


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn the errors "no space left" and "permission denied" into messages with a remedy."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFullError(
                f"no space left while writing {path}; finished runs are intact: free some space and repeat the "
                "command to resume"
            ) from None
        if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
            raise RunDirectoryError(f"cannot write {path}: {error.strerror}; choose another `output`") from None
        raise


def check_space(path: Path, needed: int) -> None:
    """Raise `DiskFullError` if the file system of `path` has fewer than `needed` bytes free."""
    existing = next(p for p in [path.absolute(), *path.absolute().parents] if p.exists())
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise DiskFullError(
            f"{path} needs about {needed / 1e6:.0f} MB and {existing} has {free / 1e6:.0f} MB free; free some space "
            "or set `output` to another disk"
        )
