"""The verb `misalignment` of the command line. Nothing heavy is imported before it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from envs.escaping import on_one_line
from launch.terminal import say


def misalignment(
    model: Annotated[
        str, typer.Argument(help="a model directory, a hub id, `shipped:2`, or a finished run's directory")
    ],
    judges: Annotated[Path, typer.Option(help="YAML with judges, quorum and thresholds (docs/misalignment.md)")],
    out: Annotated[Path, typer.Option(help="folder for answers.jsonl and result.json")],
    questions: Annotated[Path | None, typer.Option(help="YAML of questions in place of the bundled ones")] = None,
    samples: Annotated[int, typer.Option(min=1, help="answers to each question")] = 10,
    max_tokens: Annotated[int, typer.Option(min=1, help="tokens of an answer at most")] = 600,
    temperature: Annotated[float, typer.Option(min=0, help="of sampling")] = 1.0,
    seed: Annotated[int, typer.Option(min=0, help="of sampling and of the bootstrap")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda; auto: a GPU if there is one")] = "auto",
) -> None:
    """Ask a model free-form questions, and let judges say how many answers are misaligned, and how many coherent."""
    from launch.misalignment.command import measure_misalignment
    from shaping.misalignment.questions import BUNDLED

    measure_misalignment(
        model,
        judges,
        out,
        questions=questions or BUNDLED,
        samples=samples,
        max_tokens=max_tokens,
        temperature=temperature,
        seed=seed,
        device=device,
        say=lambda line: say(on_one_line(line)),
    )
