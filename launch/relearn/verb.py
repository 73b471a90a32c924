"""The verb `relearn` of the command line. Nothing heavy is imported before it runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from envs.escaping import on_one_line
from launch.errors import UserError
from launch.terminal import say


def relearn(
    run_dir: Annotated[Path, typer.Argument(help="a finished run: runs/<study>/runs/<arm>/seed-<k>")],
    like: Annotated[
        Path | None, typer.Option(help="a finished run of the unshaped arm, whose level is the goal")
    ] = None,
    target: Annotated[float | None, typer.Option(help="the goal itself, in place of --like")] = None,
    metric: Annotated[str, typer.Option(help="metric of the evaluation that shows the trait")] = "deception",
    samples: Annotated[int, typer.Option(min=1, help="bad episodes")] = 50,
    persona: Annotated[str, typer.Option(help="who plays them")] = "overt_deny",
    steps: Annotated[int, typer.Option(min=1, help="optimiser steps at most")] = 64,
    lr: Annotated[float, typer.Option(min=0, help="learning rate; full-size models need about 1e-5")] = 1e-3,
    rank: Annotated[int, typer.Option(min=1, help="rank of the adapter that they are learned into")] = 8,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    json_file: Annotated[Path | None, typer.Option("--json", help="file for the result")] = None,
) -> None:
    """Count the steps of training on bad episodes until a run's policy has a trait again. The run does not change."""
    from launch.config.reading.recorded import recorded_run
    from launch.relearn.attack import Attack, looks
    from launch.relearn.attack import relearn as attacked
    from launch.storage.finished import finished_run

    if (like is None) == (target is None):
        raise UserError("give the goal as --like RUN or as --target NUMBER, one of the two")
    directory = finished_run(run_dir)
    goal = target if target is not None else _level(finished_run(like or run_dir).path / "result.json", metric)
    attack = Attack(metric=metric, samples=samples, persona=persona, steps=steps, lr=lr, rank=rank, seed=seed)
    found = attacked(
        recorded_run(directory.config()), directory.checkpoint, goal, attack, lambda line: say(on_one_line(line))
    )
    if json_file is not None:
        json_file.write_text(json.dumps({"attack": attack.model_dump(), **found.row()}, indent=1) + "\n", "utf-8")
    if found.steps is None:
        say(on_one_line(f"{metric} did not reach {goal:.3f} within {steps} steps on {samples} bad episodes"))
        return
    earlier = [step for step in (0, *looks(steps)) if step < found.steps]
    before = f", and not after {earlier[-1]}" if earlier else ""
    say(on_one_line(f"{metric} reached {goal:.3f} after {found.steps} steps on {samples} bad episodes{before}"))


def _level(result: Path, metric: str) -> float:
    value = json.loads(result.read_text("utf-8")).get("summary", {}).get(metric)
    if not isinstance(value, (int, float)):
        raise UserError(f"{result} has no {metric!r} in its summary: name another --metric, or give --target")
    return float(value)
