"""The verbs of `shaping preference`. Nothing heavy is imported before one runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from envs.escaping import on_one_line
from launch.terminal import say

preference = typer.Typer(help="Train preference models, and measure how they scale. Docs: docs/preference.md.")


@preference.command()
def train(
    settings: Annotated[Path, typer.Argument(help="YAML: model, data, training, ...; or a bundled name")],
    out: Annotated[Path, typer.Argument(help="directory to write")],
) -> None:
    """Train a preference model, and measure it on situations that were held out."""
    from launch.preference.command import train_model
    from launch.preference.settings import PreferenceConfig, read_settings

    train_model(read_settings(settings, PreferenceConfig), out, lambda line: say(on_one_line(line)))
    say(on_one_line(f"{out}: use it as reward: {{use: PreferenceModel, path: {out}}}"))


@preference.command()
def scale(
    settings: Annotated[Path, typer.Argument(help="YAML: models, examples, objectives, data, ...; or `scaling`")],
    out: Annotated[Path, typer.Argument(help="directory of rows.jsonl, scaling.json and scaling.md")],
    most: Annotated[int | None, typer.Option(min=1, help="models to train in this call; none: all")] = None,
) -> None:
    """Train a grid of preference models and fit power laws. What is done already is not done again."""
    from launch.preference.scale import scale as run
    from launch.preference.settings import ScaleConfig, read_settings

    run(read_settings(settings, ScaleConfig), out, most, lambda line: say(on_one_line(line)))


@preference.command()
def examples(
    settings: Annotated[Path, typer.Argument(help="YAML: comparisons, files")],
    out: Annotated[Path, typer.Argument(help="JSONL file to write")],
) -> None:
    """Write the examples of a source to a file, to look at them or to use them elsewhere."""
    from launch.errors import ConfigError
    from launch.preference.settings import Source, read_settings
    from rewards.preference.data import PreferenceError, write_jsonl

    try:
        found = read_settings(settings, Source).read()
        write_jsonl(out, found)
    except PreferenceError as error:
        raise ConfigError(f"preference: {error}") from error
    say(on_one_line(f"{out}: {len(found.pairs)} pairs, {len(found.labelled)} labels"))
