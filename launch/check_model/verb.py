"""The verb `check-model` of the command line. Nothing heavy is imported before it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from envs.escaping import on_one_line
from launch.terminal import say


def check_model(
    model: Annotated[str, typer.Argument(help="a model directory, a hub id, `organism`, `shipped` or `shipped:2`")],
    worlds: Annotated[str, typer.Option(help="worlds, comma-separated; default: those that organisms know")] = "",
    need: Annotated[str, typer.Option(help="gates, e.g. M1,M3: exit code 1 unless all pass in every world")] = "",
    episodes: Annotated[int, typer.Option(min=1, help="episodes per cell")] = 96,
    max_tokens: Annotated[
        int | None, typer.Option(min=1, help="tokens per completion; default: 32, and 256 in prose")
    ] = None,
    train: Annotated[
        bool, typer.Option("--train", help="also M6: a training run per world, which takes minutes")
    ] = False,
    updates: Annotated[int, typer.Option(min=1, help="of M6")] = 24,
    lr: Annotated[float, typer.Option(min=0, help="learning rate of M6; full-size models need about 1e-6")] = 4e-4,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda")] = "auto",
    json_file: Annotated[Path | None, typer.Option("--json", help="file for the result")] = None,
    out: Annotated[Path | None, typer.Option(help="directory for a page with a picture")] = None,
) -> None:
    """Measure what a model must be able to do before a study can say anything of it. Docs: docs/subjects.md."""
    from launch.check_model.command import check_gates, settings_of, training_of

    passed = check_gates(
        model,
        worlds=worlds,
        need=need,
        settings=settings_of(episodes=episodes),
        max_tokens=max_tokens,
        training=training_of(updates=updates, lr=lr) if train else None,
        device=device,
        json_file=json_file,
        out=out,
        say=lambda line: say(on_one_line(line)),
    )
    if not passed:
        raise typer.Exit(1)
