"""The verbs `power` and `preregister` of the command line. Nothing heavy is imported before one of them runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from envs.escaping import on_one_line
from launch.terminal import say

Config = Annotated[str, typer.Argument(help="a study's YAML file, or the name of a bundled study such as `quickstart`")]
Overrides = Annotated[list[str] | None, typer.Argument(help="key.path=value ..., e.g. train.updates=10 seeds=2")]


def power(
    config: Config,
    overrides: Overrides = None,
    pilot: Annotated[
        list[Path] | None, typer.Option(help="runs or rows to take the SDs from; default: those of the study itself")
    ] = None,
) -> None:
    """Say what each claim of a study can decide: SD between replicates, power, replicates needed for 80%."""
    from launch.config.loading import load_study
    from launch.report.power_table import read_pilot, table_of

    loaded = load_study(config, overrides or [])
    for line in table_of(loaded, read_pilot(loaded, pilot or [])):
        say(on_one_line(line))


def preregister(
    config: Config,
    overrides: Overrides = None,
    out: Annotated[Path | None, typer.Option(help="file of the page; default: print it")] = None,
) -> None:
    """Write down what a study will judge and how, to be committed before it runs."""
    from launch.config.loading import load_study
    from launch.report.build import DELTA
    from launch.report.preregistration import preregistration
    from launch.storage.files import disk_errors, make_directory, write_text

    page = preregistration(load_study(config, overrides or []), DELTA)
    if out is None:
        say(page)
        return
    with disk_errors(out.parent):
        make_directory(out.parent)
        write_text(out, page)
    say(f"preregistration: {out}")
