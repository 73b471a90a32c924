"""One training run on disk: written as it goes, marked complete last, never pickled. Layout: docs/run-directory.md."""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from envs.escaping import placeless
from launch.errors import RunDirectoryError
from launch.storage import jsonl
from launch.storage.documents import VERSION, checksum, read_marked, read_sealed, write_json, write_sealed
from launch.storage.files import (
    disk_errors,
    fresh_directory,
    make_directory,
    remove,
    replacing,
    safe,
    sync,
    write_bytes,
    write_text,
)
from launch.storage.lock import try_lock
from launch.storage.seals import EPISODES, RECORDS, Seal, broken, is_weights, seal, seals, written_files

if TYPE_CHECKING:
    from envs.episode import Episode
    from shaping.monitors.records import MonitorRecord

FORMAT = "shaping-run"
LOCK = ".lock"
STATE = "state"
METRICS, TIMINGS, EVALUATION, RESULT = "metrics.jsonl", "timings.jsonl", "eval.jsonl", "result.json"
FAILED = "failed.json"
STAGES = "stages"
"""Folder of the stages before the last (`launch.run.finetuning`), each of which is a run directory."""
NOTE = "set-aside.txt"
OWN = ("run.json", METRICS, TIMINGS, EVALUATION, EPISODES, "checkpoint", "quarantine", RESULT, STATE, FAILED)
"""Everything that a run writes into its directory. Whatever else is there belongs to somebody, and stays."""
Status = Literal["absent", "complete", "changed", "partial", "foreign"]


class LostFilesError(RunDirectoryError):
    """Something that the run has written is gone or changed, while it runs."""


class RunDirectory:
    """The files of one run: `create` first, then `metrics`, `evaluation`, `episodes` and `checkpoint`, `finish` last.

    A run that was killed in between is `partial`. `create` wipes it; `rewind` returns it to a `mark`, from which it
    can resume. A finished run is never wiped: if its files have changed since, it is set aside.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._written: dict[str, Seal] = {}
        """What this process has written and nothing may change before the end."""

    @property
    def checkpoint(self) -> Path:
        """Folder of the policy after the last update (Hugging Face layout)."""
        return self.path / "checkpoint"

    @property
    def state(self) -> Path:
        """Folder of the training states of an unfinished run (`launch.storage.checkpoint`)."""
        return self.path / STATE

    def stage(self, name: str) -> RunDirectory:
        """The directory of a stage that is not the last."""
        return RunDirectory(self.path / STAGES / name)

    def begin(self, config: Mapping[str, Any], versions: Mapping[str, Any], **made_with: Any) -> None:
        """As `create`, unless the run has begun already. `create` leaves the stages that are finished."""
        if self.status() == "absent":
            self.create(config, versions, **made_with)

    def status(self, *, weights: bool = False) -> Status:
        """`partial` is unfinished, `changed` was finished and has changed since, `foreign` is not a run.

        Contents are compared with the hashes in result.json; those of weights, which may be large, only on demand.
        """
        contents = self._contents()
        if not contents:
            return "absent"
        ours = read_record(self.path) is not None
        if RESULT in contents and (ours or self.result() is not None):
            return "changed" if self.damage(weights=weights) else "complete"
        if not ours:
            return "foreign" if any(not entry.startswith(".tmp-") for entry in contents) else "partial"
        return "partial"

    def damage(self, *, weights: bool = False) -> str:
        """The first file that differs from what result.json vouches for, and how; empty if none does."""
        result = self.result()
        if result is None:
            return f"{RESULT} is damaged" if (self.path / RESULT).exists() else f"{RESULT} is missing"
        if read_record(self.path) is None:
            return "run.json is damaged or missing"
        under_way = result.get("replacing", {})
        for name, sealed in result["files"].items():
            contents = weights or not is_weights(name)
            how = broken(self.path / name, sealed, contents=contents)
            if how and (name not in under_way or broken(self.path / name, under_way[name], contents=contents)):
                return f"{name} {how}"
        return ""

    def config(self) -> dict[str, Any]:
        """The resolved config of the run (a `launch.config.study.RunConfig`)."""
        return dict(self.record()["config"])

    def record(self) -> dict[str, Any]:
        """run.json: config, versions, and hashes of what the run was made with."""
        document = read_record(self.path)
        if document is None:
            raise RunDirectoryError(f"{self.path} is not a run directory: it has no intact run.json")
        return document

    def result(self) -> dict[str, Any] | None:
        """result.json of a finished run, or None if it is absent or its checksum does not match."""
        return read_sealed(self.path / RESULT, FORMAT)

    def create(self, config: Mapping[str, Any], versions: Mapping[str, Any], **made_with: Any) -> None:
        """Start a run, and wipe a half-written one; a changed one is set aside.

        `made_with` goes into run.json. Raises `RunDirectoryError` for a finished run and foreign files.
        """
        status = self.status()
        if status == "foreign":
            raise RunDirectoryError(
                f"{self.path} is not empty and is not a run directory; choose another `output` or `name`, or empty it"
            )
        if status == "complete":
            raise RunDirectoryError(f"{self.path} holds a finished run; move it away before running it again")
        if status == "changed":
            self.set_aside(self.damage())
        with disk_errors(self.path):
            make_directory(self.path)
            ours = [entry for entry in os.listdir(self.path) if entry in OWN or entry.startswith(".tmp-")]
            for entry in sorted(ours, key="run.json".__eq__):  # run.json last: it marks the run directory
                remove(self.path / entry)
            self._written = {}
            document = {"format": FORMAT, "version": VERSION, "config": config, "versions": versions, **made_with}
            write_sealed(self.path / "run.json", document)
            write_bytes(self.path / METRICS, b"")

    def vacate(self, heir: Path) -> None:
        """Empty the directory for a finished run at `heir`, to which files of others move. As `create` otherwise."""
        if self.status() in ("changed", "complete"):
            self.set_aside("another machine has finished it, too")
        with disk_errors(self.path):
            for entry in os.listdir(make_directory(self.path)):
                if entry in OWN or entry.startswith(".tmp-") or entry == LOCK or (heir / entry).exists():
                    remove(self.path / entry)
                else:
                    os.replace(self.path / entry, heir / entry)

    def set_aside(self, why: str) -> str:
        """Rename the directory to `<name>.set-aside-<n>`, with a note that says why and when. Returns a line on it."""
        taken = {path.name for path in self.path.parent.iterdir()}
        number = next(n for n in range(1, len(taken) + 2) if f"{self.path.name}.set-aside-{n}" not in taken)
        target = self.path.with_name(f"{self.path.name}.set-aside-{number}")
        now = datetime.now(UTC).isoformat(timespec="seconds")
        with disk_errors(self.path):
            write_text(self.path / NOTE, f"{now}: this finished run was set aside, since {why}. Nothing was deleted.\n")
            os.replace(self.path, safe(target))
            make_directory(self.path)
            with contextlib.suppress(FileNotFoundError):  # it stays locked by its holder
                os.replace(target / LOCK, self.path / LOCK)
        return f"{self.path}: {why}; the run was set aside as {target.name}, and is made again"

    def metrics(self, row: Mapping[str, Any]) -> None:
        """Append one line to metrics.jsonl and flush it, so that a killed run keeps its metrics."""
        with disk_errors(self.path):
            jsonl.append(self.path / METRICS, row)

    def timings(self, row: Mapping[str, Any]) -> None:
        """Append one line to timings.jsonl. Wall times are kept apart from the reproducible files."""
        with disk_errors(self.path):
            jsonl.append(self.path / TIMINGS, row)

    def rows(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl, with nan for null. Raises `LostFilesError` if one is damaged."""
        try:
            rows = jsonl.read(self.path / METRICS)
        except jsonl.JsonLinesError as error:
            raise LostFilesError(f"{self.path}: {error}") from error
        return [{k: math.nan if v is None else v for k, v in row.items()} for row in rows]

    def check_rows(self, updates: int) -> None:
        """Raises `LostFilesError` unless metrics.jsonl holds the rows of `updates` updates, each once, in order."""
        self._check_rows(jsonl.whole(self.path / METRICS), updates)

    def _check_rows(self, parsed: jsonl.Parsed, updates: int) -> None:
        found = [row.get("update") for row in parsed.rows]
        if parsed.fault or found != list(range(updates)):
            fault = parsed.fault or f"holds {len(found)} rows where it should hold those of updates 0 to {updates - 1}"
            raise LostFilesError(f"{self.path / METRICS} {fault}; something else has written there")

    def mark(self, updates: int) -> dict[str, Any]:
        """Flush the files to disk and describe them after `updates` updates, for a later `rewind` to this point.

        Raises `LostFilesError` if a row or a file of episodes is damaged or missing: a state is worth no more than
        the files that it continues.
        """
        with disk_errors(self.path):
            if (self.path / METRICS).is_file():
                sync(self.path / METRICS)
            parsed = jsonl.whole(self.path / METRICS)
            self._check_rows(parsed, updates)
            self._check_written(contents=False)
            if (self.path / EPISODES).is_dir():
                sync(self.path / EPISODES)
            files = {name: self._written.get(f"{EPISODES}/{name}") for name in self._episode_names()}
            episodes = {name: sealed or seal(self.path / EPISODES / name) for name, sealed in files.items()}
        return {"rows": updates, "metrics": _fingerprint(parsed.raw), "episodes": episodes}

    def rewind(self, mark: Mapping[str, Any]) -> str:
        """Remove everything written since `mark`. If older files are damaged, return how, and change nothing."""
        with disk_errors(self.path):
            if lost := self._lost(mark):
                return lost
            for entry in os.listdir(self.path):
                kept = entry in ("run.json", METRICS, EPISODES, TIMINGS, STATE)
                if (entry in OWN and not kept) or entry.startswith(".tmp-"):
                    remove(self.path / entry)
            for name in self._episode_names():
                if name not in mark["episodes"]:
                    remove(self.path / EPISODES / name)
            for leftover in (self.path / EPISODES).rglob("*.tmp-*"):
                remove(leftover)
            self._cut(mark["rows"])
            self._written = {f"{EPISODES}/{n}": s for n, s in mark["episodes"].items() if isinstance(s, dict)}
        return ""

    def evaluation(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write eval.jsonl. In a finished run it is replaced, and the run stays complete."""
        with self._writing(EVALUATION) as temporary:
            temporary.write_text(jsonl.encode(rows), encoding="utf-8")

    def episodes(self, name: str, episodes: Sequence[Episode]) -> None:
        """Write `episodes/<name>.parquet`. In a finished run it is replaced, and the run stays complete."""
        from envs.store import write_episodes

        with disk_errors(self.path):
            make_directory(self.path / EPISODES)
        with self._writing(f"{EPISODES}/{name}.parquet") as temporary:
            write_episodes(temporary, episodes)

    def records(self, name: str, records: Sequence[MonitorRecord]) -> None:
        """Write `episodes/records/<name>.parquet`: what monitors said of episodes. As `episodes` otherwise."""
        from shaping.monitors.records import write_records

        with disk_errors(self.path):
            make_directory(self.path / EPISODES / RECORDS)
        with self._writing(f"{EPISODES}/{RECORDS}/{name}.parquet") as temporary:
            write_records(temporary, records)

    def weights(self, *folder: str) -> Path:
        """An empty folder to save weights in: `checkpoint`, or `quarantine` and the name of an adapter."""
        with disk_errors(self.path):
            return fresh_directory(self.path.joinpath(*folder))

    def finish(self, result: Mapping[str, Any]) -> None:
        """Write result.json atomically. Then the run is complete.

        Raises `LostFilesError` if rows of metrics.jsonl or other files that the run has written are lost or changed.
        """
        parsed = jsonl.whole(self.path / METRICS)
        self._check_rows(parsed, int(result.get("updates", len(parsed.rows))))
        self._check_written()
        document = {**result, "format": FORMAT, "version": VERSION}
        with disk_errors(self.path):
            document["files"] = seals(self.path, written_files(self.path))
            write_sealed(self.path / RESULT, document)
        self.forget_state()

    def fail(self, message: str) -> None:
        """Note that a half-written run has failed, and was not stopped. Its next start removes the note."""
        if self.status() == "partial":
            write_json(self.path / FAILED, {"error": placeless(message)})

    def failure(self) -> bool:
        """Did the run fail when it last ran?"""
        return (self.path / FAILED).exists()

    def forget_state(self) -> None:
        """Remove the training states, which a finished run does not need."""
        with contextlib.suppress(OSError):
            remove(self.state)

    @contextlib.contextmanager
    def locked(self, patience: float = 30.0) -> Iterator[None]:
        """Hold the lock of the directory. Waits up to `patience` seconds, e.g. for a worker whose driver was killed.

        Raises `RunDirectoryError` if another process keeps the lock.
        """
        with disk_errors(self.path):
            make_directory(self.path)
        with safe(self.path / LOCK).open("a") as file:
            deadline = time.monotonic() + patience
            while not try_lock(file.fileno()):
                if time.monotonic() > deadline:
                    raise RunDirectoryError(f"{self.path} is being written by another process; wait for it or stop it")
                time.sleep(0.2)
            yield

    def _contents(self) -> list[str]:
        """Names of what is in the directory, without hidden files, which programs leave everywhere."""
        if not self.path.exists():
            return []
        if not self.path.is_dir():
            raise RunDirectoryError(f"{self.path} is a file, not a run directory; choose another `output` or move it")
        found = sorted(n for n in os.listdir(self.path) if not n.startswith(".") or n.startswith(".tmp-"))
        return [] if found == [STAGES] else found

    def _episode_names(self) -> list[str]:
        """Files of episodes and of records, relative to the folder of episodes."""
        folder = self.path / EPISODES
        found = [*folder.glob("*.parquet"), *(folder / RECORDS).glob("*.parquet")]
        return sorted(path.relative_to(folder).as_posix() for path in found if not path.name.startswith("."))

    def _check_written(self, *, contents: bool = True) -> None:
        for name, sealed in self._written.items():
            if how := broken(self.path / name, sealed, contents=contents):
                raise LostFilesError(f"{self.path / name} {how}; something else has written there")

    def _lost(self, mark: Mapping[str, Any]) -> str:
        """How the files differ from what `mark` recorded; empty if they do not."""
        raw = jsonl.whole(self.path / METRICS).raw
        if _fingerprint(raw[: mark["rows"]]) != mark["metrics"]:
            return f"{METRICS} no longer begins with the {mark['rows']} rows written before it"
        for name, sealed in mark["episodes"].items():
            if how := broken(self.path / EPISODES / name, sealed):
                return f"{EPISODES}/{name} {how}"
        return ""

    def _cut(self, rows: int) -> None:
        """Cut metrics.jsonl to `rows` lines, and timings.jsonl to the lines of the same updates."""
        metrics, timings = self.path / METRICS, self.path / TIMINGS
        write_bytes(metrics, b"".join(jsonl.whole(metrics).raw[:rows]))
        kept = (line for line in jsonl.whole(timings).rows if line.get("update", rows) < rows)
        jsonl.write(timings, kept)

    @contextlib.contextmanager
    def _writing(self, name: str) -> Iterator[Path]:
        """A temporary file that takes the place of one of the run's files.

        In a finished run result.json first vouches for the old and the new contents, then for the new ones alone, so
        that the run is complete whenever it is killed.
        """
        with disk_errors(self.path):
            result = self.result() if self.status() == "complete" else None
            under_way = self._settled(result)
            with replacing(self.path / name) as temporary:
                yield temporary
                new = seal(temporary)
                if result is not None:
                    write_sealed(self.path / RESULT, {**result, "replacing": {**under_way, name: new}})
            if result is None:
                self._written[name] = new
            else:
                settled = {key: value for key, value in result.items() if key != "replacing"}
                write_sealed(self.path / RESULT, {**settled, "files": {**result["files"], **under_way, name: new}})

    def _settled(self, result: Mapping[str, Any] | None) -> dict[str, Seal]:
        """Files that an earlier process has replaced, and was killed before it said so."""
        under_way = dict((result or {}).get("replacing", {}))
        return {name: sealed for name, sealed in under_way.items() if not broken(self.path / name, sealed)}


def read_record(path: Path) -> dict[str, Any] | None:
    """run.json of the run at `path`, or None if it is absent, damaged or foreign. Earlier ones have no checksum."""
    document = read_marked(path / "run.json", FORMAT)
    if document is None or document.keys() <= {"format", "version", "config", "versions"}:
        return document
    return document if document.get("checksum") == checksum(document) else None


def _fingerprint(lines: Sequence[bytes]) -> str:
    return hashlib.blake2b(b"".join(lines), digest_size=16).hexdigest()
