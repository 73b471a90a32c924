"""The verb `sandbag` of the command line. Nothing heavy is imported before it runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from envs.escaping import on_one_line
from launch.errors import UserError
from launch.terminal import say


def sandbag(
    run_dir: Annotated[Path, typer.Argument(help="a finished run: runs/<study>/runs/<arm>/seed-<k>")],
    like: Annotated[
        Path | None,
        typer.Option(help="a run of a policy that does its best, evaluated alike: its gain must be exceeded, too"),
    ] = None,
    scales: Annotated[str, typer.Option(help="of the noise, relative to each tensor's size")] = "0.01,0.03,0.1,0.3",
    draws: Annotated[int, typer.Option(min=1, help="draws of the noise at each scale")] = 6,
    metric: Annotated[str, typer.Option(help="true_reward or proxy_reward")] = "true_reward",
    margin: Annotated[float, typer.Option(min=0, help="smallest gain of interest, a share of the full return")] = 0.1,
    seed: Annotated[int, typer.Option(min=0, help="of the draws")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda; auto: a GPU if there is one")] = "auto",
    json_file: Annotated[Path | None, typer.Option("--json", help="file for the result")] = None,
) -> None:
    """Evaluate a run's policy under weight noise: does it score higher than without? The run does not change."""
    from launch.sandbag.command import find_sandbagging, lines_of

    try:
        wanted = [float(part) for part in scales.split(",")]
    except ValueError:
        raise UserError(f"--scales {scales!r}: write numbers with commas between them, such as 0.01,0.1") from None
    found = find_sandbagging(
        run_dir,
        like=like,
        scales=wanted,
        draws=draws,
        metric=metric,
        margin=margin,
        seed=seed,
        device=device,
        note=lambda line: say(on_one_line(line)),
    )
    if json_file is not None:
        about = {"metric": metric, "margin": margin, "draws": draws, "seed": seed, "like": like is not None}
        json_file.write_text(json.dumps({**about, **found.row()}, indent=1) + "\n", "utf-8")
    for line in lines_of(found, metric):
        say(on_one_line(line))
