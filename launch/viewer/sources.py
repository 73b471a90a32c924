"""The episode files that a path stands for: those of a study, of a run, or one file."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from envs.escaping import on_one_line
from launch.errors import RunDirectoryError
from launch.storage.files import STUDY
from launch.storage.seals import EPISODES

MAX_FILE_BYTES = 8 << 30
"""Largest episode file that is opened."""
_RUN = re.compile(r"seed-(\d{1,10})")
"""As in `launch.storage.studydir`, which imports the whole configuration: a second before the first page."""
_TRAINED = re.compile(r"train-(\d{1,9})")


@dataclass(frozen=True)
class EpisodeFile:
    """One file of episodes, and what its place says of them."""

    path: str
    """Where it lies."""
    arm: str
    """The arm, with its point on the study's axes; "" for a file outside of a run."""
    replicate: int
    """The training seed of the run; -1 outside of a run."""
    name: str
    """The file's name without its ending, e.g. `eval` or `train-000012`."""

    @property
    def update(self) -> int | None:
        """The training update that played the episodes, from 0; None for those of an evaluation."""
        found = _TRAINED.fullmatch(self.name)
        return int(found[1]) if found else None

    @property
    def run(self) -> Path:
        """Directory of the run, for what lies beside the episodes."""
        return Path(self.path).parent.parent


@dataclass(frozen=True)
class Sources:
    """The episode files of a study or a run."""

    title: str
    """Name of the study or the run."""
    files: tuple[EpisodeFile, ...]
    """Evaluations first, then training in the order of its updates; arm by arm."""
    problems: tuple[str, ...] = ()
    """One sentence per file that is not opened."""


def find_sources(path: Path) -> Sources:
    """The episode files of a study, of a run, or the file itself.

    Raises `RunDirectoryError` if there are none. Links that lead out of the directory, pipes and files of more than
    `MAX_FILE_BYTES` are left out, each with a sentence.
    """
    if path.suffix == ".parquet" and path.is_file():
        return Sources(path.stem, (EpisodeFile(str(path.absolute()), "", -1, path.stem),))
    if (path / STUDY).is_file():
        runs = sorted(run for run in (path / "runs").glob("*/seed-*") if _RUN.fullmatch(run.name))
    elif (path / EPISODES).is_dir():
        runs = [path]
    else:
        raise RunDirectoryError(
            f"{path} is neither a study (no {STUDY}), nor a run (no folder {EPISODES}/), nor a .parquet file; name the "
            "directory that `shaping study` wrote, e.g. runs/quickstart"
        )
    files, problems = _usable([file for run in runs for file in _of_run(run)], path)
    if not files:
        why = problems[0] if problems else "no run has written any yet (train.save_episodes_every, or the evaluation)"
        raise RunDirectoryError(f"{path} has no episode files: {why}")
    return Sources(path.absolute().name, files, problems)


def _of_run(run: Path) -> list[EpisodeFile]:
    number = _RUN.fullmatch(run.name)
    arm = run.absolute().parent.name if number else run.absolute().name
    names = os.listdir(run / EPISODES) if (run / EPISODES).is_dir() else []
    folder = os.path.join(run.absolute(), EPISODES)
    found = [
        EpisodeFile(os.path.join(folder, name), arm, int(number[1]) if number else -1, name.removesuffix(".parquet"))
        for name in names
        if name.endswith(".parquet") and not name.startswith(".")
    ]
    return sorted(found, key=lambda file: (file.update is not None, file.update or 0, file.name))


def _usable(files: Sequence[EpisodeFile], root: Path) -> tuple[tuple[EpisodeFile, ...], tuple[str, ...]]:
    inside = os.path.join(os.path.realpath(root), "")
    checked = [(file, _problem(file.path, inside)) for file in files]
    problems = (
        on_one_line(f"{os.path.relpath(file.path, root)} {problem}; it is left out")
        for file, problem in checked
        if problem
    )
    return tuple(file for file, problem in checked if not problem), tuple(problems)


def _problem(path: str, inside: str) -> str:
    if not os.path.realpath(path).startswith(inside):
        return "is a link that leads out of the directory"
    try:
        found = os.stat(path)
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    if not stat.S_ISREG(found.st_mode):
        return "is a pipe, a device or a folder, not a file"
    return f"has {found.st_size:,} bytes, more than {MAX_FILE_BYTES:,}" if found.st_size > MAX_FILE_BYTES else ""
