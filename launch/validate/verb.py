"""The verb `validate` of the command line. Nothing heavy is imported before it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from envs.escaping import on_one_line
from launch.terminal import say


def validate(
    monitor: Annotated[str, typer.Argument(help="name of a monitor, or package.module:Class")],
    world: Annotated[str, typer.Option(help="the world whose labels judge it, e.g. clerk or clerk@ar-1850")],
    fields: Annotated[list[str] | None, typer.Argument(help="key=value ..., fields of the monitor")] = None,
    option: Annotated[list[str] | None, typer.Option(help="key=value, an option of the world (repeatable)")] = None,
    episodes: Annotated[int, typer.Option(min=1, help="episodes of each scripted player, and of the model")] = 40,
    locales: Annotated[str, typer.Option(help="all, none or e.g. ar-1850,en-2090: where transfer is measured")] = "",
    run: Annotated[
        list[Path] | None, typer.Option(help="a finished run whose evaluation is added (may be repeated)")
    ] = None,
    model: Annotated[str, typer.Option(help="a model that plays, too: directory, hub id, organism, shipped:2")] = "",
    max_tokens: Annotated[int, typer.Option(min=1, help="tokens per completion of the model")] = 64,
    threshold: Annotated[float, typer.Option(min=0, max=1, help="score from which on a turn is flagged")] = 0.5,
    resamples: Annotated[int, typer.Option(min=1, max=100_000, help="resamples of the bootstrap over episodes")] = 1000,
    patience: Annotated[float, typer.Option(min=0, help="seconds that the monitor may read")] = 3600.0,
    study: Annotated[Path | None, typer.Option(help="a study whose report shall cite the card")] = None,
    out: Annotated[Path | None, typer.Option(help="folder of the card; default: cards")] = None,
) -> None:
    """Measure how well a monitor tells good conduct from bad, and write its card. Docs: docs/monitors.md."""
    from launch.check import named_values
    from launch.validate.command import folder_of, validate_monitor, write_card

    folder = folder_of(study, out)
    card = validate_monitor(
        monitor,
        named_values(fields or []),
        world,
        options=named_values(option or []),
        episodes=episodes,
        locales=locales,
        runs=run or [],
        model=model,
        max_tokens=max_tokens,
        threshold=threshold,
        resamples=resamples,
        patience=patience,
        say=lambda line: say(on_one_line(line)),
    )
    for trait in card.traits:
        say(on_one_line(card.line(trait)))
    for name, why in card.unjudged.items():
        say(on_one_line(f"{name} is not judged: it is {why}"))
    say(f"card: {write_card(card, folder)}")
