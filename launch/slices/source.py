"""Where a report reads a study: the directory that it ran in, or a directory of the rows of its runs."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from launch.config.reading.digests import digest
from launch.config.reading.published import without_places
from launch.config.study import StudyConfig
from launch.errors import RunDirectoryError, describe
from launch.report.files.run_files import DamagedFileError, ResultFile, RunFile, check_kinds, checked, read_json
from launch.slices.rows import RunRows, read_rows
from launch.storage import jsonl
from launch.storage.rundir import EVALUATION, METRICS, RESULT, RunDirectory
from launch.storage.studydir import StudyDirectory

STUDY, ROWS = "shaping-study", "shaping-study-rows"
"""Formats of study.json: of a study that ran there, and of rows alone."""
_APART = ("output", "report", "tracking", "gauge", "isolated")
"""Keys of a study that change no result: slices may differ in them."""
_FILE = re.compile(r"seed-\d{1,10}\.json")


def study_digest(document: Mapping[str, Any]) -> str:
    """Hash of a study's config, without places on the machine, and without the keys that change no result."""
    return digest({key: value for key, value in document.items() if key not in _APART})


class StudyDirectoryError(RunDirectoryError):
    """The directory is not one a report can be made from; the message names it and the remedy."""


class BrokenRunError(Exception):
    """Why one run cannot be used."""


class AbsentRunError(BrokenRunError):
    """There is nothing of the run."""


@dataclass(frozen=True)
class Source(ABC):
    """One directory with runs of a study."""

    directory: Path
    config: StudyConfig
    recorded: Mapping[str, Any]
    """The config of study.json as it stands there, without places on the machine."""

    @property
    def digest(self) -> str:
        """Equal for slices of one study."""
        return study_digest(self.recorded)

    @abstractmethod
    def found(self) -> list[tuple[str, int]]:
        """(arm, seed) of the runs that are there, whole or not."""

    @abstractmethod
    def read(self, arm: str, seed: int) -> RunRows:
        """A finished run. Raises `BrokenRunError` or `DamagedFileError`."""


class StudySource(Source):
    """A study where it ran."""

    def found(self) -> list[tuple[str, int]]:
        paths = StudyDirectory(self.directory).run_directories()
        return [(path.parent.name, int(path.name.partition("-")[2])) for path in paths]

    def read(self, arm: str, seed: int) -> RunRows:
        path = self.directory / "runs" / arm / f"seed-{seed}"
        directory = RunDirectory(path)
        check_kinds(path, self.directory)
        for name, kind in ((RESULT, ResultFile), ("run.json", RunFile)):
            if (path / RESULT).is_file() and (path / name).is_file():
                checked(name, read_json(path / name, self.directory), kind)
        try:
            status, result = directory.status(), directory.result()
        except RunDirectoryError as error:
            raise BrokenRunError(str(error)) from error
        if status == "absent":
            raise AbsentRunError("not started")
        if status != "complete" or result is None:
            reasons = {
                "foreign": "the directory holds something else, not a run",
                "changed": f"changed since its end: {directory.damage()}",
            }
            raise BrokenRunError(reasons.get(status, "interrupted or still running"))
        return RunRows(directory.record(), result, _lines(path / EVALUATION), _lines(path / METRICS), path)


class RowsSource(Source):
    """Rows that `shaping rows` wrote: `<arm>[+axis=value...]/seed-<k>.json`."""

    def found(self) -> list[tuple[str, int]]:
        paths = sorted(path for path in self.directory.glob("*/seed-*.json") if _FILE.fullmatch(path.name))
        return [(path.parent.name, int(path.stem.partition("-")[2])) for path in paths]

    def path(self, arm: str, seed: int) -> Path:
        return self.directory / arm / f"seed-{seed}.json"

    def read(self, arm: str, seed: int) -> RunRows:
        path = self.path(arm, seed)
        if not path.is_symlink() and not path.exists():
            raise AbsentRunError("not among the rows")
        rows = read_rows(path, self.directory, self.digest)
        checked(f"{arm}/{path.name}: result", rows.result, ResultFile)
        checked(f"{arm}/{path.name}: record", rows.record, RunFile)
        return rows


_KINDS: dict[str, type[Source]] = {STUDY: StudySource, ROWS: RowsSource}
_REMEDY = "give the directory that `shaping study` wrote (it holds study.json and runs/), or that `shaping rows` wrote"


def open_source(directory: Path) -> Source:
    """Raises `StudyDirectoryError` if there is no study, and no rows of one."""
    path = directory / "study.json"
    if not directory.is_dir():
        raise StudyDirectoryError(f"{directory}: there is no such directory; {_REMEDY}")
    if not path.is_file():
        what = "is empty" if not any(directory.iterdir()) else "has no study.json, so no study wrote it"
        raise StudyDirectoryError(f"{directory}: the directory {what}; {_REMEDY}")
    try:
        record = read_json(path, directory)
    except DamagedFileError as error:
        raise StudyDirectoryError(
            f"{directory}: {error}; it was cut off or overwritten: run the study again in the same directory, which "
            "writes it once more"
        ) from error
    kind = _KINDS.get(str(record.get("format"))) if isinstance(record, dict) else None
    if kind is None:
        raise StudyDirectoryError(f"{path}: not a study record (no format marker {STUDY!r} or {ROWS!r}); {_REMEDY}")
    if record.get("version") != 1:
        raise StudyDirectoryError(
            f"{path}: format version {record.get('version')!r}, but this program reads version 1; "
            "make the report with the version that wrote it"
        )
    fields = record.get("config", {k: v for k, v in record.items() if k in StudyConfig.model_fields})
    try:
        config = StudyConfig.model_validate(fields)
    except ValidationError as error:
        raise StudyDirectoryError(
            f"{path}: the study's configuration does not validate:\n{describe(error, StudyConfig)}\n"
            "make the report with the version that wrote it"
        ) from error
    return kind(directory, config, without_places(fields))


def _lines(path: Path) -> list[dict[str, Any]]:
    try:
        return jsonl.read(path)
    except jsonl.JsonLinesError as error:
        raise BrokenRunError(str(error)) from error
