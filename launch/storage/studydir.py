"""A study on disk: `study.json`, the lock, and the state of its runs."""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launch.config.arms.axes import arm_of
from launch.config.reading.digests import digest as config_digest
from launch.config.reading.paths import expanded
from launch.config.study import RunConfig, StudyConfig
from launch.errors import RunDirectoryError
from launch.storage.checkpoint import Checkpoints
from launch.storage.documents import read_marked, write_json
from launch.storage.files import disk_errors, make_directory, safe
from launch.storage.lock import study_lock
from launch.storage.rundir import RunDirectory, Status, read_record
from launch.storage.versions import differences

FORMAT, VERSION = "shaping-study", 1
ENTRIES = {"study.json", "study.lock", "runs", "report", "rows", "logs", "model", "set-aside", "tracking", "looks.json"}
"""Everything that a study writes into its directory."""
SEED = re.compile(r"seed-(\d+)")
"""Name of the directory of a run, below that of its arm."""


@dataclass(frozen=True)
class StudyDirectory:
    """Paths of a study."""

    path: Path
    """`<output>/<name>`."""

    def run(self, run: RunConfig) -> RunDirectory:
        """The directory of a run."""
        return RunDirectory(self.path / "runs" / run.directory_name)

    def run_directories(self) -> list[Path]:
        """The directories of all runs on disk. Those that were set aside beside them do not count."""
        return sorted(p for p in (self.path / "runs").glob("*/seed-*") if SEED.fullmatch(p.name))

    def name_of(self, path: Path) -> str:
        """`<arm>[+axis=value...]/seed-<k>` of a run's directory."""
        return path.relative_to(self.path / "runs").as_posix()

    def move_aside(self, paths: Sequence[Path], which: str, note: Callable[[str], None]) -> None:
        """Move runs to set-aside/, so that no report mixes them with the others. `which` says why in the note."""
        stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
        for path in paths:
            target = self.path / "set-aside" / stamp / path.parent.name / path.name
            make_directory(target.parent)
            os.replace(safe(path.parent) / path.name, target)
        if paths:
            runs = "1 run was" if len(paths) == 1 else f"{len(paths)} runs were"
            note(f"{runs} moved to {self.path / 'set-aside' / stamp}: {which}")

    def log(self, run: RunConfig) -> Path:
        """The log file of a run."""
        return self.path / "logs" / f"{run.directory_name}.log"


@dataclass(frozen=True)
class Plan:
    """The runs of a study by state."""

    pending: list[RunConfig]
    """Runs to start or resume."""
    kept: list[RunConfig]
    """Runs that are finished already."""


@contextlib.contextmanager
def open_study(config: StudyConfig, *, force: bool, note: Callable[[str], None]) -> Iterator[StudyDirectory]:
    """Lock the study's directory and write study.json.

    Args:
        config: The study.
        force: Accept a directory with another config. Finished runs with other settings are moved to set-aside/, never
            deleted.
        note: Receives messages for the user.

    Raises:
        RunDirectoryError: The directory is foreign, locked, or (without `force`) of another config.
    """
    path = _path_of(config)
    _refuse_foreign(path)
    with study_lock(path, note):
        study = StudyDirectory(path)
        settings = config.model_dump(mode="json", exclude={"output"})  # wherever it lies, it is the same study
        document = {"format": FORMAT, "version": VERSION, "config": settings}
        recorded = read_marked(path / "study.json", FORMAT)
        if recorded is None or recorded.get("config") != document["config"]:
            if recorded is not None and not force:
                _refuse_changed(study, dict(recorded.get("config") or {}), config.model_dump(mode="json"))
            with disk_errors(path):
                write_json(path / "study.json", document)
        with disk_errors(path):
            study.move_aside(_other_settings(study, config.runs()), "made with other settings", note)
        yield study


def begun(config: StudyConfig) -> bool:
    """Is there a directory of the study's name?"""
    return _path_of(config).exists()


def _path_of(config: StudyConfig) -> Path:
    return expanded(config.output).absolute() / config.name


def plan(study: StudyDirectory, runs: Sequence[RunConfig], note: Callable[[str], None]) -> Plan:
    """Sort runs into finished and pending ones. `note` receives how many are kept, resumed and restarted."""
    pending: list[RunConfig] = []
    kept: list[RunConfig] = []
    resumed = restarted = 0
    for run, status in zip(runs, _statuses(study, runs), strict=True):
        directory = study.run(run)
        if status == "foreign":
            raise RunDirectoryError(
                f"{directory.path} holds files but no intact run.json; move it away, or choose another `name`"
            )
        if status == "changed":
            note(directory.set_aside(directory.damage(weights=True)))
        (kept if status == "complete" else pending).append(run)
        if status == "complete":
            directory.forget_state()  # it may have been killed between its last two steps
        elif status == "partial":
            resumes = Checkpoints.of(directory, run).newest() is not None
            resumed, restarted = resumed + resumes, restarted + (not resumes)
    if kept:
        note(f"{len(kept)} of {len(runs)} runs are finished already and are kept")
    if resumed:
        note(f"{resumed} half-written {'run resumes' if resumed == 1 else 'runs resume'} from the last saved state")
    if restarted:
        note(f"{restarted} half-written {'run restarts' if restarted == 1 else 'runs restart'} from the beginning")
    return Plan(pending, kept)


def _statuses(study: StudyDirectory, runs: Sequence[RunConfig]) -> list[Status]:
    """The states of runs. Finished ones are compared with their hashes, several at once, since weights may be large."""
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as threads:
        return list(threads.map(lambda run: study.run(run).status(weights=True), runs))


def _refuse_changed(study: StudyDirectory, recorded: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuse another config where it would give up or reinterpret results. Failed runs protect nothing."""
    changed = differences(recorded, now)
    holders = {arm_of(path.parent.name) for path in study.run_directories() if protected(RunDirectory(path))}
    if not changed or not holders or all(_only_of_other_arms(line, holders, recorded) for line in changed):
        return
    shown = "\n".join(f"  {line}" for line in changed[:12])
    more = f"\n  and {len(changed) - 12} more" if len(changed) > 12 else ""
    raise RunDirectoryError(
        f"{study.path} was started with another config:\n{shown}{more}\n"
        "run this one under another name (name=...), or use --force to continue here: finished runs with unchanged "
        "settings are kept, the others are set aside"
    )


def _only_of_other_arms(line: str, holders: set[str], recorded: Mapping[str, Any]) -> bool:
    """Is the difference in an arm that the study has had and that holds nothing?"""
    first, _, rest = line.partition(":")[0].partition(".")
    arm = rest.partition(".")[0]
    return first == "arms" and arm in dict(recorded.get("arms") or {}) and arm not in holders


def _refuse_foreign(path: Path) -> None:
    if path.exists() and not path.is_dir():
        raise RunDirectoryError(f"{path} is a file; choose another `name` or `output`")
    entries = set(os.listdir(path)) if path.exists() else set()
    if (path / "study.json").is_file() or entries <= {"study.lock"}:
        if (path / "study.json").is_file() and read_marked(path / "study.json", FORMAT) is None and entries - ENTRIES:
            raise RunDirectoryError(
                f"{path / 'study.json'} is damaged or not a study; choose another `name` or `output`"
            )
        return
    raise RunDirectoryError(
        f"{path} is not empty and holds no study (no study.json); choose another `name` or `output`"
    )


def _other_settings(study: StudyDirectory, runs: Sequence[RunConfig]) -> list[Path]:
    """Runs on disk whose recorded settings are not those of `runs`."""
    wanted = {study.run(run).path: run.model_dump(mode="json") for run in runs}
    records = {path: read_record(path) for path in study.run_directories()}
    return [path for path, record in records.items() if record is not None and record["config"] != wanted.get(path)]


def protected(directory: RunDirectory, digest: str | None = None) -> bool:
    """Does the run hold something that must not be given up unasked: a result, or a state to resume from?

    A run that has failed protects nothing, nor does one that has no state. `digest` is that of the config whose states
    count; None: that of run.json.
    """
    status = directory.status()
    if status in ("complete", "changed"):
        return True
    if status != "partial" or directory.failure():
        return False
    return Checkpoints(directory.state, digest or config_digest(directory.config())).newest() is not None
