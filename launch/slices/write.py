"""Write the rows of a study: what can be kept, sent and joined where its directory cannot."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from launch.looks.record import looks_taken, record_looks
from launch.report.files.run_files import DamagedFileError
from launch.slices.join import check_same_study, difference_of, read_run
from launch.slices.rows import RunRows, write_rows
from launch.slices.source import ROWS, BrokenRunError, RowsSource, StudyDirectoryError, StudySource, open_source
from launch.storage.documents import write_json
from launch.storage.files import disk_errors, make_directory


@dataclass
class Written:
    """What was written."""

    folder: Path
    runs: int = 0
    largest: int = 0
    """Bytes of the largest file."""
    left_out: list[str] = field(default_factory=list)
    """Runs that are not whole, with the reason."""


def write_study(study_dir: Path, out: Path | None = None) -> Written:
    """Write the rows of the finished runs of `study_dir` to `out` (default: its `rows/`), beside those of other slices.

    Raises `StudyDirectoryError` if `study_dir` is no study or has no finished run, if `out` holds rows of another study
    or something else, or if it holds other results of one of the runs: nothing is overwritten but by the same.
    """
    source = open_source(study_dir)
    if not isinstance(source, StudySource):
        raise StudyDirectoryError(f"{study_dir} holds rows already; give the directory that `shaping study` wrote")
    written = Written(out or study_dir / "rows")
    kept = _kept(written.folder)
    if kept is not None:
        check_same_study(kept, source)
    runs: dict[tuple[str, int], RunRows] = {}
    for arm, seed in source.found():
        try:
            runs[arm, seed] = read_run([source], arm, seed)
        except BrokenRunError as error:
            written.left_out.append(f"{arm}/seed-{seed}: {error}")
    if not runs:
        why = f" ({written.left_out[0]})" if written.left_out else ""
        raise StudyDirectoryError(f"{study_dir}: the study has no complete run{why}, so that there are no rows to keep")
    if kept is not None:
        for (arm, seed), rows in runs.items():
            _check_kept(kept, arm, seed, study_dir, rows)
    with disk_errors(written.folder):
        make_directory(written.folder)
        write_json(written.folder / "study.json", {"format": ROWS, "version": 1, "config": source.recorded})
        if looks := looks_taken(study_dir):
            record_looks(written.folder, looks)
        for (arm, seed), rows in runs.items():
            make_directory(written.folder / arm)
            size = write_rows(written.folder / arm / f"seed-{seed}.json", source.digest, arm, seed, rows)
            written.runs, written.largest = written.runs + 1, max(written.largest, size)
    return written


def _kept(folder: Path) -> RowsSource | None:
    """The rows that are in a folder already."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return None
    source = open_source(folder)
    if not isinstance(source, RowsSource):
        raise StudyDirectoryError(f"{folder} holds a study, not rows; give another folder as --out")
    return source


def _check_kept(kept: RowsSource, arm: str, seed: int, study_dir: Path, rows: RunRows) -> None:
    """Damaged rows are written again; whole ones with other results are somebody's."""
    try:
        other = kept.read(arm, seed)
    except (BrokenRunError, DamagedFileError):
        return
    if how := difference_of(other, rows):
        raise StudyDirectoryError(
            f"{kept.path(arm, seed)} holds other results than {study_dir} for the same run: {how}; remove the file if "
            "it is out of date, or give another folder as --out"
        )
