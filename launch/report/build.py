"""Make the report of a study: index.html, report.md, arms.csv and verdicts.json."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from launch.config.sections import find_sections
from launch.errors import UserError
from launch.report.claims.verdict import as_json
from launch.report.escaping import json_text
from launch.report.files.episode_files import EpisodeFiles
from launch.report.files.load import load
from launch.report.page import html_page, markdown_page
from launch.report.results import gather
from launch.report.sections.base import compute
from launch.report.table import as_csv
from launch.report.transcripts import Read, episode_file
from launch.storage.files import disk_errors, make_directory, write_text

DELTA = 0.1
"""Smallest effect of interest, in the unit of the rates and of reward access (shares of 1)."""


def build(
    study_dir: Path | Sequence[Path], out: Path | None = None, *, delta: float = DELTA, read: Read | None = None
) -> Path:
    """Write the report of a study to `out` (default: `report/` in its directory) and return the path of the page.

    `study_dir` is where it ran, or holds rows of it; several are joined, and then `out` is needed.

    Raises `StudyDirectoryError` if a directory is no study, they are of different ones or disagree, or there is no
    complete run; `UserError` for several without `out`; and `ValueError` if `delta`, the smallest effect of interest,
    is not positive.
    """
    if not delta > 0:
        raise ValueError(f"the smallest effect of interest must be above 0, not {delta}: without one nothing is small")
    directories = [Path(study_dir)] if isinstance(study_dir, (str, Path)) else list(map(Path, study_dir))
    if len(directories) > 1 and out is None:
        raise UserError("--out: the report of several directories belongs to none of them; say where to write it")
    study = load(*directories)
    sections = find_sections(study.config)
    results = gather(study, delta, read or EpisodeFiles([path for run in study.runs if (path := episode_file(run))]))
    parts = compute(sections, results)
    folder = Path(out) if out is not None else study.directory / "report"
    verdicts = as_json(results.verdicts, study.name, delta)
    files = {
        "verdicts.json": json_text(verdicts, indent=1) + "\n",
        "arms.csv": as_csv(results.cells),
        "report.md": markdown_page(results, parts),
        "index.html": html_page(results, parts),
    }
    with disk_errors(folder):
        make_directory(folder)
        for name, text in files.items():
            write_text(folder / name, text)
    return folder / "index.html"
