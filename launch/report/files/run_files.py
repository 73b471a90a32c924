"""The files of a study as untrusted input: kind, size, depth and types are checked before a report uses them."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, NoReturn, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from envs.text import valid_tree
from launch.errors import describe
from launch.storage.rundir import EPISODES, EVALUATION, METRICS, RESULT

MAX_NUMBER = 1e15
"""Largest number that a report takes for a measurement."""
MAX_DEPTH = 64
"""Deepest nesting of a JSON document."""
MAX_BYTES = {RESULT: 16 << 20, "run.json": 16 << 20, "study.json": 16 << 20, EVALUATION: 256 << 20, METRICS: 1 << 30}
"""Largest file of each kind that is read. Their text is in memory as a whole."""
MAX_EPISODE_FILE = 8 << 30
NUMBERS = ("rate", "count", "opportunity", "selection", "selection_within")
"""Families of columns that hold numbers."""
_TEXTS = ("phase", "world", "watch", "placebo")

Short = Annotated[str, Field(max_length=500)]
Number = Annotated[float, Field(ge=-MAX_NUMBER, le=MAX_NUMBER, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0, le=int(MAX_NUMBER))]
Document = TypeVar("Document", bound=BaseModel)


class DamagedFileError(Exception):
    """A file cannot be used; the message names it and says why."""


def _inside(name: str) -> str:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\0" in name:
        raise ValueError("it names a file outside of the run")
    return name


class _Lenient(BaseModel):
    """Strict types for what is used; anything else may be there."""

    model_config = ConfigDict(strict=True, extra="allow")


class Seal(_Lenient):
    bytes: Count
    blake2b: Short = ""


Seals = dict[Annotated[Short, AfterValidator(_inside)], Count | Seal]


class CellLosses(_Lenient):
    """Evaluation episodes of one cell that gave no result."""

    world: Short
    watch: Short = ""
    placebo: Short = ""
    episodes: Count
    failed: Count = 0
    no_turns: Count = 0
    flagged: bool = False
    first_failure: Short = ""


class Attrition(_Lenient):
    episodes: Count | None = None
    trained: Count | None = None
    filtered: Count | None = None
    failed: Count | None = None
    status: dict[Short, Count] | None = None
    evaluation: Annotated[list[CellLosses], Field(max_length=10_000)] | None = None


class ResultFile(_Lenient):
    """What a report uses of result.json."""

    arm: Short | None = None
    seed: int | None = None
    subject: Short | None = None
    label: Short | None = None
    family: Literal["unshaped", "constraint", "motivation", "mixed", "control"] | None = None
    oracle: bool = False
    spent_monitors: Annotated[list[Short], Field(max_length=1000)] | None = None
    untested: Annotated[list[Short], Field(max_length=1000)] | None = None
    attrition: Attrition | None = None
    summary: Annotated[dict[Short, Number | None], Field(max_length=100_000)] | None = None
    files: Seals
    replacing: Seals = {}


class ArmRecord(_Lenient):
    role: Any = None


class ConfigRecord(_Lenient):
    arm_config: ArmRecord | None = None
    sweep_point: dict[Short, Any] | None = None


class Versions(_Lenient):
    packages: dict[Short, Any] | None = None


class RunFile(_Lenient):
    """What a report uses of run.json."""

    config: ConfigRecord
    versions: Versions | None = None


def check_kinds(run: Path, study: Path) -> None:
    """Everything of a run that is read is a file of the study: no pipe or device, and no link that leads out of it."""
    names = ("", "run.json", RESULT, METRICS, EVALUATION, EPISODES)
    for path in (*(run / name for name in names), *(run / EPISODES).glob("*")):
        if os.path.lexists(path) and (problem := _problem(path, study)):
            raise DamagedFileError(f"{path.relative_to(run.parent if path == run else run)} {problem}")


def _problem(path: Path, study: Path, limit: int | None = None) -> str:
    if not path.resolve().is_relative_to(study.resolve()):
        return "is a link that leads out of the study"
    try:
        found = path.stat()
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    if not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)):
        return "is a pipe or a device, not a file"
    limit = limit or MAX_BYTES.get(path.name, MAX_EPISODE_FILE)
    return f"has {found.st_size:,} bytes, of which a report reads at most {limit:,}" if found.st_size > limit else ""


def read_json(path: Path, study: Path, limit: int | None = None) -> Any:
    """The value of a JSON file of a study, of at most `limit` bytes. Raises `DamagedFileError`."""
    if problem := _problem(path, study, limit):
        raise DamagedFileError(f"{path.name} {problem}")
    try:
        value = json.loads(path.read_text(encoding="utf-8"), parse_constant=_no_number)
    except RecursionError:
        raise DamagedFileError(f"{path.name} is nested too deeply") from None
    except (OSError, ValueError) as error:
        raise DamagedFileError(f"{path.name} cannot be read as JSON ({error})") from error
    _check_depth(path.name, value)
    return valid_tree(value)


def checked(name: str, value: Any, kind: type[Document]) -> Document:
    """The part of a document that the report uses. Raises `DamagedFileError` that names the first wrong key."""
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        raise DamagedFileError(f"{name}: {describe(error, kind).partition(chr(10))[0]}") from None


def check_rows(name: str, rows: Iterable[Mapping[str, Any]], *, needed: str = "") -> None:
    """Raises `DamagedFileError` for the first line without `needed`, or in which a value has a wrong type."""
    for line, row in enumerate(rows, start=1):
        if needed and needed not in row:
            raise DamagedFileError(f"{name} line {line} has no {needed}")
        for key in _wrong(row):
            raise DamagedFileError(f"{name} line {line}: {key!r:.80} is {row[key]!r:.80}")


def _wrong(row: Mapping[str, Any]) -> Iterator[str]:
    yield from (key for key in _TEXTS if key in row and not _is_text(row[key]))
    numbers = (key for key in row if key == "reward" or key.partition("/")[0] in NUMBERS)
    yield from (key for key in numbers if row[key] is not None and not is_measurement(row[key]))


def is_measurement(value: Any) -> bool:
    """Is it a number that can have been measured?"""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= MAX_NUMBER


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= 500


def _no_number(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number")


def _check_depth(name: str, value: Any) -> None:
    level = [value]
    for _ in range(MAX_DEPTH):
        if not level:
            return
        level = [item for each in level if isinstance(each, (dict, list)) for item in _items(each)]
    raise DamagedFileError(f"{name} is nested more than {MAX_DEPTH} levels deep")


def _items(value: dict[str, Any] | list[Any]) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value
