"""The verb `directions` of the command line. Nothing heavy is imported before it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from envs.escaping import on_one_line
from launch.terminal import say


def directions(
    model: Annotated[str, typer.Argument(help="a model directory, a hub id, `organism`, `shipped` or `shipped:2`")],
    out: Annotated[Path, typer.Option(help="the file to write (.safetensors)")],
    contrast: Annotated[str, typer.Option(help="a bundled contrast, or a YAML file with one")] = "deception",
    layers: Annotated[str, typer.Option(help="best, all, or numbers with commas (negative: from the end)")] = "best",
    components: Annotated[int, typer.Option(min=0, help="0: difference of means; k: principal components of it")] = 0,
    random: Annotated[int | None, typer.Option(help="seed: write random directions of the same lengths")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda")] = "auto",
) -> None:
    """Find the direction of a trait in a model's hidden states. Docs: docs/interventions/activations.md."""
    from launch.directions.command import find_directions

    lines = find_directions(
        model, out, contrast=contrast, layers=layers, components=components, random=random, device=device
    )
    for line in lines:
        say(on_one_line(line))
