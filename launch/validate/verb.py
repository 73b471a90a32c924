"""The verb `validate` of the command line. Nothing heavy is imported before it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from envs.escaping import on_one_line
from launch.errors import UserError
from launch.terminal import say


def validate(
    monitor: Annotated[str, typer.Argument(help="name of a monitor, package.module:Class, or all")],
    world: Annotated[
        str, typer.Option(help="the world whose labels judge it: clerk, clerk@ar-1850; for all several, with commas")
    ],
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
    if monitor == "all":
        _every(world, folder, fields, option, run, locales, episodes, model, max_tokens, threshold, resamples)
        return
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


def _every(
    world: str,
    folder: Path,
    fields: list[str] | None,
    option: list[str] | None,
    run: list[Path] | None,
    locales: str,
    episodes: int,
    model: str,
    max_tokens: int,
    threshold: float,
    resamples: int,
) -> None:
    from launch.check import named_values
    from launch.validate.every import LEFT_OUT, validate_all

    if fields or run or locales not in ("", "none"):
        raise UserError("`validate all` takes no fields, no --run and no --locales: name one monitor for these")
    cards = validate_all(
        [each.strip() for each in world.split(",") if each.strip()],
        folder,
        options=named_values(option or []),
        episodes=episodes,
        model=model,
        max_tokens=max_tokens,
        threshold=threshold,
        resamples=resamples,
        say=lambda line: say(on_one_line(line)),
    )
    say(on_one_line(f"{len(cards)} cards in {folder}; {LEFT_OUT} tells which monitors have none, and why"))
