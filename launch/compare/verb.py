"""The verb `compare` of the command line. Nothing heavy is imported before it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from envs.escaping import on_one_line
from launch.terminal import say


def compare(
    directories: Annotated[
        list[Path], typer.Argument(help="studies: where `shaping study` wrote, or kept rows such as docs/results/NAME")
    ],
    metric: Annotated[
        list[str] | None, typer.Option(help="compare arms of one name in this metric, too (may be repeated)")
    ] = None,
    out: Annotated[Path, typer.Option(help="folder of the page, its forest plot and the tables")] = Path("comparison"),
) -> None:
    """Put the claims of several studies side by side: verdicts, effects with intervals, and what else differs."""
    from launch.compare.comparison import compared
    from launch.compare.page import write
    from launch.compare.sides import read_sides
    from launch.compare.text import lines_of

    found = compared(read_sides(directories), metric or [])
    for line in lines_of(found):
        say(on_one_line(line, 4000))
    say(f"comparison: {write(found, out)}")
