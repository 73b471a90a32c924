"""Slices of one study from several directories: one set of runs, in which nothing is chosen in silence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from envs.escaping import placeless
from launch.config.reading.published import without_places
from launch.report.files.run_files import DamagedFileError
from launch.slices.rows import RunRows
from launch.slices.source import AbsentRunError, BrokenRunError, Source, StudyDirectoryError, open_source
from launch.storage.versions import differences

SHOWN = 12
"""Most lines of differences in a message."""


def open_slices(directories: Sequence[Path]) -> list[Source]:
    """The sources. Raises `StudyDirectoryError` if one is none, or if two are of different studies."""
    sources = [open_source(directory) for directory in directories]
    for source in sources[1:]:
        check_same_study(sources[0], source)
    return sources


def check_same_study(first: Source, other: Source) -> None:
    """Raises `StudyDirectoryError` that names the keys in which two studies differ."""
    if first.digest == other.digest:
        return
    before, now = first.recorded, other.recorded
    lines = differences(before, now)
    if before.get("name") != now.get("name"):
        lines.insert(0, f"name: {before.get('name')!r} -> {now.get('name')!r}")
    more = [f"and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
    raise StudyDirectoryError(
        f"{first.directory} and {other.directory} are no slices of one study, for their settings differ:\n"
        + "\n".join(f"  {line}" for line in [*lines[:SHOWN], *more])
        + "\nmake one report of each, or run one of them again with the settings of the other"
    )


def read_run(sources: Sequence[Source], arm: str, seed: int) -> RunRows:
    """A run from the slices that hold it.

    Raises `BrokenRunError`, with the reason of each slice that holds something of it, if none holds it whole, and
    `StudyDirectoryError` if two hold different results.
    """
    found: list[tuple[Source, RunRows]] = []
    reasons: dict[str, None] = {}
    absent = ""
    for source in sources:
        try:
            found.append((source, source.read(arm, seed)))
        except AbsentRunError as error:
            absent = str(error)
        except (BrokenRunError, DamagedFileError) as error:
            reasons[relative(str(error), source.directory)] = None
        except Exception as error:  # no file of one run keeps a report from the others
            reasons[relative(f"cannot be read: {type(error).__name__}: {error}", source.directory)] = None
    for source, rows in found[1:]:
        _check_same_run(f"{arm}, seed {seed}", found[0], (source, rows))
    if not found:
        raise BrokenRunError("; ".join(reasons) or absent)
    return next((rows for _, rows in found if rows.directory is not None), found[0][1])  # with its episodes


def _check_same_run(name: str, one: tuple[Source, RunRows], other: tuple[Source, RunRows]) -> None:
    (first, a), (second, b) = one, other
    how = difference_of(a, b)
    if how:
        raise StudyDirectoryError(
            f"{name} is in {first.directory} and in {second.directory}, and they differ: {how}; no report can choose "
            "between the two: remove one of them, or see that each slice runs seeds or arms of its own"
        )


def difference_of(a: RunRows, b: RunRows) -> str:
    """How two accounts of one run differ, in words; empty if they do not."""
    if a.digest != b.digest:
        settings = (without_places(dict(rows.record.get("config") or {})) for rows in (a, b))
        return f"settings, {_first(differences(*settings))}"
    for name, own, its in ((name, own, b.measured()[name]) for name, own in a.measured().items()):
        if own != its:
            return f"{name}, {_first(list(_changes(own, its)))}"
    return ""


def _changes(a: Any, b: Any) -> Iterator[str]:
    if isinstance(a, Mapping):
        yield from differences(a, b)
    else:
        if len(a) != len(b):
            yield f"{len(a)} lines -> {len(b)} lines"
        for number, (own, its) in enumerate(zip(a, b, strict=False), start=1):
            yield from (f"line {number}, {line}" for line in differences(own, its))


def _first(lines: Sequence[str]) -> str:
    more = f" and {len(lines) - 1} more" if len(lines) > 1 else ""
    return (lines[0] if lines else "the order of their keys") + more


def relative(text: str, directory: Path) -> str:
    """A message for a page that others read: paths begin at the study."""
    for prefix in {str(directory), str(directory.absolute()), str(directory.resolve())}:
        text = text.replace(f"{prefix}/", "").replace(prefix, directory.name)
    return placeless(text)
