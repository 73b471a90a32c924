"""The rows of a finished run: one JSON document with settings, result, evaluation and metrics.

They hold no episodes, no weights and no place on the machine, so that they can be kept and joined where the run cannot.
Lines of a file are kept as a table, since their keys are most of their length. Numbers are exact.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from launch.config.reading.digests import digest
from launch.config.reading.published import without_places
from launch.report.files.run_files import DamagedFileError, Short, checked, read_json
from launch.storage.documents import checksum, dumps
from launch.storage.files import write_text

FORMAT, VERSION = "shaping-rows", 1
MAX_BYTES = 64 << 20
"""Largest file of rows that is read."""
_OWN = ("format", "version", "checksum")
"""Keys of run.json and result.json that are about the file."""
_FILES = ("files", "replacing")
"""Keys of result.json that vouch for files, which two machines may write differently."""

_ABSENT: dict[str, Any] = {}

Row = dict[str, Any]


@dataclass(frozen=True)
class RunRows:
    """What reports know of a finished run but for its episodes."""

    record: Mapping[str, Any]
    """run.json: config, versions, and hashes of what the run was made with."""
    result: Mapping[str, Any]
    """result.json."""
    evaluation: list[Row]
    """The lines of eval.jsonl."""
    metrics: list[Row]
    """The lines of metrics.jsonl."""
    directory: Path | None = None
    """Where its episodes lie; None: they are not kept."""

    @property
    def digest(self) -> str:
        """Hash of the run's config, wherever its model and its plug-ins lie."""
        return digest(without_places(self.record.get("config")))

    def measured(self) -> dict[str, Any]:
        """All that it found, for comparison with the same run elsewhere."""
        result = {key: value for key, value in self.result.items() if key not in (*_OWN, *_FILES)}
        return {"result.json": without_places(result), "eval.jsonl": self.evaluation, "metrics.jsonl": self.metrics}


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    columns: Annotated[list[Short], Field(max_length=100_000)]
    rows: list[list[Any]]


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    format: Literal["shaping-rows"]
    version: Literal[1]
    study: Short
    config: Short
    arm: Short
    seed: int
    record: dict[Short, Any]
    result: dict[Short, Any]
    evaluation: _Table
    metrics: _Table
    checksum: Short


def write_rows(path: Path, study: str, arm: str, seed: int, rows: RunRows) -> int:
    """Write the rows of a run of the study with digest `study`. Returns the size of the file."""
    document = {
        "format": FORMAT,
        "version": VERSION,
        "study": study,
        "config": rows.digest,
        "arm": arm,
        "seed": seed,
        "record": _published(rows.record),
        "result": _published(rows.result),
        "evaluation": _table(rows.evaluation),
        "metrics": _table(rows.metrics),
    }
    parsed = json.loads(dumps(document))  # the checksum is of the JSON that a reader parses
    text = dumps({**parsed, "checksum": checksum(parsed)}, compact=True) + "\n"
    write_text(path, text)
    return len(text.encode())


def read_rows(path: Path, folder: Path, study: str) -> RunRows:
    """The rows at `path` in `folder`, of a run of the study with digest `study`. Raises `DamagedFileError`."""
    name = path.relative_to(folder).as_posix()
    value = read_json(path, folder, limit=MAX_BYTES)
    if isinstance(value, dict) and value.get("format") == FORMAT and value.get("version") != VERSION:
        raise DamagedFileError(f"{name} has version {value.get('version')!r:.20} of the format; this program reads 1")
    document = checked(name, value, _Document)
    if checksum(value) != document.checksum:
        raise DamagedFileError(f"{name} has changed since it was written (its checksum does not fit)")
    if document.study != study:
        raise DamagedFileError(f"{name} is of another study (digest {document.study:.40}, not {study})")
    if (document.arm, document.seed) != (path.parent.name, int(path.stem.partition("-")[2])):
        raise DamagedFileError(f"{name} is of arm {document.arm:.80}, seed {document.seed}: renamed?")
    evaluation = _rows(f"{name}: evaluation", document.evaluation)
    rows = RunRows(document.record, document.result, evaluation, _rows(f"{name}: metrics", document.metrics))
    if rows.digest != document.config:
        raise DamagedFileError(f"{name} holds the config of another run")
    return rows


def _published(document: Mapping[str, Any]) -> dict[str, Any]:
    return {key: without_places(value) for key, value in document.items() if key not in _OWN}


def _table(rows: Sequence[Row]) -> dict[str, Any]:
    """All rows under the columns that any of them has. What a row lacks is an empty object: null is a value."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    return {"columns": columns, "rows": [[row.get(key, _ABSENT) for key in columns] for row in rows]}


def _rows(name: str, table: _Table) -> list[Row]:
    if len(set(table.columns)) != len(table.columns):
        raise DamagedFileError(f"{name} has two columns of one name")
    rows: list[Row] = []
    for values in table.rows:
        if len(values) != len(table.columns):
            raise DamagedFileError(f"{name} row {len(rows) + 1} has {len(values)} values, not {len(table.columns)}")
        rows.append({key: value for key, value in zip(table.columns, values, strict=True) if value != _ABSENT})
    return rows
