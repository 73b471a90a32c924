"""A study on disk: `study.json`, the lock, and which of its runs are done."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launch.config.study import RunConfig, StudyConfig
from launch.errors import RunDirectoryError
from launch.storage.checkpoint import Checkpoints
from launch.storage.lock import study_lock
from launch.storage.rundir import FORMAT as RUN_FORMAT
from launch.storage.rundir import RunDirectory, disk_errors, read_marked, write_json
from launch.storage.versions import differences

FORMAT, VERSION = "shaping-study", 1
OURS = {"study.json", "study.lock", "runs", "report", "logs", "model", "set-aside", "tracking"}


@dataclass(frozen=True)
class StudyDirectory:
    """Paths of a study, under `<output>/<name>/`."""

    path: Path

    def run(self, run: RunConfig) -> RunDirectory:
        return RunDirectory(self.path / "runs" / run.directory_name)

    def log(self, run: RunConfig) -> Path:
        return self.path / "logs" / f"{run.directory_name}.log"


@dataclass(frozen=True)
class Plan:
    """What is left to do: runs to start, and how many are finished already."""

    pending: list[RunConfig]
    kept: list[RunConfig]


@contextlib.contextmanager
def open_study(config: StudyConfig, *, force: bool, note: Callable[[str], None]) -> Iterator[StudyDirectory]:
    """Lock the study's directory and write study.json. Refuses a foreign one and one of another config.

    With `force` a changed config is taken: finished runs that are no part of it are set aside, never deleted.
    """
    path = Path(config.output).absolute() / config.name
    _refuse_foreign(path)
    with study_lock(path, note):
        study = StudyDirectory(path)
        document = {"format": FORMAT, "version": VERSION, "config": config.model_dump(mode="json")}
        there = read_marked(path / "study.json", FORMAT)
        if there is None or there.get("config") != document["config"]:
            if there is not None and not force:
                _refuse_changed(path, dict(there.get("config") or {}), config.model_dump(mode="json"))
            with disk_errors(path):
                write_json(path / "study.json", document)
        with disk_errors(path):
            _set_aside(study, config.runs(), note)
        yield study


def plan(study: StudyDirectory, runs: Sequence[RunConfig], note: Callable[[str], None]) -> Plan:
    """Finished runs of the same resolved config are kept; half-written ones go on from their last state, if any."""
    pending: list[RunConfig] = []
    kept: list[RunConfig] = []
    resumed = restarted = 0
    for run in runs:
        directory = study.run(run)
        status = directory.status()
        if status == "foreign":
            raise RunDirectoryError(
                f"{directory.path} holds no intact run.json of ours but other files; move it away, or choose another "
                "`name`"
            )
        (kept if status == "complete" else pending).append(run)
        if status == "complete":
            directory.forget_state()  # if it was killed between its last two steps
        elif status == "partial":
            goes_on = Checkpoints.of(directory, run).newest() is not None
            resumed, restarted = resumed + goes_on, restarted + (not goes_on)
    if kept:
        note(f"{len(kept)} of {len(runs)} runs are finished already and are kept")
    if resumed:
        note(f"{resumed} half-written {'run goes' if resumed == 1 else 'runs go'} on from the last saved state")
    if restarted:
        note(f"{restarted} half-written {'run is' if restarted == 1 else 'runs are'} started afresh")
    return Plan(pending, kept)


def _refuse_changed(path: Path, there: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    changed = differences(there, now)
    if not changed:
        return
    shown = "\n".join(f"  {line}" for line in changed[:12])
    more = f"\n  and {len(changed) - 12} more" if len(changed) > 12 else ""
    raise RunDirectoryError(
        f"{path} was started with another config:\n{shown}{more}\n"
        "run this one under another name (name=...), or use --force to go on here: finished runs with unchanged "
        "settings are kept, the others are set aside"
    )


def _refuse_foreign(path: Path) -> None:
    if path.exists() and not path.is_dir():
        raise RunDirectoryError(f"{path} is a file; choose another `name` or `output`")
    entries = set(os.listdir(path)) if path.exists() else set()
    if (path / "study.json").is_file() or entries <= {"study.lock"}:
        if (path / "study.json").is_file() and read_marked(path / "study.json", FORMAT) is None and entries - OURS:
            raise RunDirectoryError(f"{path / 'study.json'} is damaged or not ours; choose another `name` or `output`")
        return
    raise RunDirectoryError(
        f"{path} is not empty and holds no study of ours (no study.json); choose another `name` or `output`"
    )


def _set_aside(study: StudyDirectory, runs: Sequence[RunConfig], note: Callable[[str], None]) -> None:
    """Move runs that are not as the config has them to set-aside/, so that no report mixes the two."""
    wanted = {study.run(run).path: run for run in runs}
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
    moved = 0
    for path in sorted((study.path / "runs").glob("*/seed-*")):
        there = read_marked(path / "run.json", RUN_FORMAT)
        run = wanted.get(path)
        if there is None or (run is not None and there["config"] == run.model_dump(mode="json")):
            continue
        target = study.path / "set-aside" / stamp / path.parent.name / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(path, target)
        moved += 1
    if moved:
        note(f"{moved} runs with other settings were moved to {study.path / 'set-aside' / stamp}")
