"""The verb `export`: a plain model of a run, or a folder that is ready for a hub. Nothing is uploaded."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from launch.errors import UserError
from launch.terminal import say

CARD = "README.md"


def export(
    source: Annotated[Path, typer.Argument(help="a finished run; or a study or its rows, for a folder of its results")],
    out: Annotated[Path, typer.Argument(help="directory to write")],
    dtype: Annotated[str, typer.Option(help="of merged weights: float32, or bfloat16, which loses small updates")] = (
        "float32"
    ),
    hub: Annotated[
        bool, typer.Option("--hub", help="of a run: its checkpoint as trained, with a card and its study's results")
    ] = False,
) -> None:
    """Write a plain model of a run with learner.lora, or a folder for a hub (--hub, or a study); nothing is sent."""
    from launch.analysis.opened import place_of

    if dtype not in ("float32", "bfloat16"):
        raise UserError(f"--dtype is {dtype!r}: write float32 or bfloat16")
    if (place_of(source) / "study.json").is_file():
        say(f"{out}: {export_study(source, out)}")
    elif hub:
        say(f"{out}: {export_run(source, out)}")
    else:
        _merge(source, out, dtype)


def _merge(run_dir: Path, out: Path, dtype: str) -> None:
    from launch.config.reading.recorded import recorded_run
    from launch.run.models.export import export as export_policy
    from launch.storage.finished import finished_run

    directory = finished_run(run_dir)
    run = recorded_run(directory.config())
    lost = export_policy(run, directory.checkpoint, out, "bfloat16" if dtype == "bfloat16" else "float32")
    say(f"{out}: {dtype}, merged in float32; rounding has changed {lost:.2g} of the adapters' update (in norm)")


def export_study(source: Path, out: Path) -> str:
    """Write the results of a study with their rows and a card. Returns what was written, in words.

    Raises `UserError` if there is no study, or `out` exists.
    """
    from launch.hub.results import StudyResults
    from launch.storage.files import write_text

    results = StudyResults.of(source)

    def fill(folder: Path) -> str:
        files = results.write(folder)
        runs = results.write_rows(folder / "rows")
        write_text(folder / CARD, results.card(runs))
        return f"{CARD}, {', '.join(files)}, rows of {runs} runs"

    return _made(out, fill)


def export_run(run_dir: Path, out: Path) -> str:
    """Write a run's checkpoint as it was trained, a model card, and the results of its study. Returns it in words.

    Raises `UserError` if the run is not finished, or `out` exists.
    """
    from launch.hub.push import card_of
    from launch.hub.results import StudyResults
    from launch.storage.files import write_text

    directory, card = card_of(run_dir)
    study = run_dir.resolve().parents[2]
    if not (study / "study.json").is_file():
        raise UserError(
            f"{run_dir}: its study is not around it (no {study.name}/study.json): give the run where it ran"
        )
    results = StudyResults.of(study)

    def fill(folder: Path) -> str:
        shutil.copytree(directory.checkpoint, folder, dirs_exist_ok=True)
        files = results.write(folder / "results")
        write_text(folder / CARD, card(results.markdown("results/")))
        return f"checkpoint, {CARD}, results/ ({', '.join(files)})"

    return _made(out, fill)


def _made(out: Path, fill: Callable[[Path], str]) -> str:
    """A folder that is there whole or not at all."""
    from launch.storage.files import disk_errors, make_directory

    if out.exists():
        raise UserError(f"{out} exists already: choose another directory")
    with (
        disk_errors(out),
        tempfile.TemporaryDirectory(dir=make_directory(out.absolute().parent), prefix=".making-") as scratch,
    ):
        unpublished = Path(scratch) / "folder"
        unpublished.mkdir()
        told = fill(unpublished)
        os.replace(unpublished, out)
    return told
