"""The verbs of `shaping preference`. Nothing heavy is imported before one runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from envs.escaping import on_one_line
from launch.terminal import say

preference = typer.Typer(help="Train preference models for rewards. Docs: docs/preference.md.")


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
