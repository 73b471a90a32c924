"""The verbs `shaping new` and `shaping schema`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from envs.escaping import on_one_line
from launch.terminal import raw, say


def new(
    kind: Annotated[str, typer.Argument(help="shaper, constraint, world, reward, monitor, claim or study")],
    name: Annotated[str, typer.Argument(help="what it is called: MyShaper or my_shaper")],
    folder: Annotated[Path, typer.Option(help="where the files are written")] = Path("."),
) -> None:
    """Write a commented plug-in or study that runs, with its test. A study names the plug-ins beside it."""
    from launch.scaffold.new import write_new

    files = write_new(kind, name, folder)
    for file in files:
        say(on_one_line(f"wrote {file}"))
    what = f"shaping study {files[0]} --dry-run" if kind == "study" else f"shaping check {_use(files[0])}"
    say(on_one_line(f"next: {what}; pytest {files[1]}"))


def schema() -> None:
    """Print the JSON schema of studies, by which editors complete keys: shaping schema > study.schema.json."""
    from launch.scaffold.new import schema_text

    raw(sys.stdout).write(schema_text())


def _use(file: Path) -> str:
    from launch.scaffold.new import parts_in

    (name,) = [part.use.partition(":")[2] for part in parts_in(file.parent) if part.use.startswith(f"{file.stem}:")]
    return f"{file if file.is_absolute() else f'./{file}'}:{name}"
