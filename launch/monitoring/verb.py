"""The verbs `probe fit`, `probe read` and `belief` of the command line. Nothing heavy is imported before they run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from envs.escaping import on_one_line
from launch.errors import UserError
from launch.terminal import say

probe = typer.Typer(
    help="Linear probes of hidden states: fit them, and read a finished run with them.", no_args_is_help=True
)

Device = Annotated[str, typer.Option(help="auto, cpu or cuda; auto: a GPU if there is one")]
Trait = Annotated[str, typer.Option(help="the trait that the probe tells")]
PERSONAS = ("honest", "deceiver", "opportunist", "mixed", "random")
KINDS = ("logistic", "mass_mean")
POSITIONS = ("response", "motive", "action", "prompt_end")


@probe.command("fit")
def fit(
    model: Annotated[str, typer.Argument(help="a model directory, a hub id, `organism`, `shipped` or `shipped:2`")],
    out: Annotated[Path, typer.Option(help="the file to write (.safetensors)")],
    world: Annotated[list[str] | None, typer.Option(help="a world, or world@locale (may be repeated): clerk")] = None,
    persona: Annotated[
        list[str] | None, typer.Option(help=f"who plays (may be repeated): {', '.join(PERSONAS)}")
    ] = None,
    episodes: Annotated[int, typer.Option(min=5, help="situations per world; every persona meets each")] = 40,
    trait: Trait = "deception",
    positions: Annotated[str, typer.Option(help=f"tokens that are read: {', '.join(POSITIONS)}")] = "response",
    silent: Annotated[bool, typer.Option("--silent", help="leave out the motives that personas state")] = False,
    kind: Annotated[str, typer.Option(help="logistic, or mass_mean (difference of class means)")] = "logistic",
    layers: Annotated[str, typer.Option(help="best, all, or numbers with commas (negative: from the end)")] = "best",
    seed: Annotated[int, typer.Option(min=0, help="of the split into fitted and held-out situations")] = 0,
    device: Device = "auto",
) -> None:
    """Fit linear probes to what scripted personas say, as a model reads it. Docs: docs/probes-and-judges.md."""
    _one_of("--kind", kind, KINDS)
    _one_of("--positions", positions, POSITIONS)
    from launch.monitoring.probe import ProbeData, fit_probe

    data = ProbeData(
        worlds=tuple(world or ("clerk",)),
        personas=tuple(persona or PERSONAS),
        episodes=episodes,
        trait=trait,
        positions=positions,  # type: ignore[arg-type]
        silent=silent,
    )
    lines = fit_probe(model, out, data, kind=kind, layers=layers, seed=seed, device=device)  # type: ignore[arg-type]
    _tell(lines)


@probe.command("read")
def read(
    run_dir: Annotated[Path, typer.Argument(help="a finished run: runs/<study>/runs/<arm>/seed-<k>")],
    path: Annotated[Path, typer.Option("--probe", help="a file of `shaping probe fit`")],
    out: Annotated[Path, typer.Option(help="file for one line of JSON per turn")],
    trait: Trait = "deception",
    device: Device = "auto",
) -> None:
    """Score a run's evaluation under its policy (p_pol) and under the model before training (p_ref)."""
    from launch.monitoring.probe import read_probe

    _tell(read_probe(run_dir, path, out, trait=trait, device=device))


def belief(
    run_dir: Annotated[Path, typer.Argument(help="a finished run: runs/<study>/runs/<arm>/seed-<k>")],
    out: Annotated[Path, typer.Option(help="file for one line of JSON per inquiry")],
    episodes: Annotated[int, typer.Option(min=1, help="episodes of the evaluation at most")] = 200,
    repeats: Annotated[int, typer.Option(min=1, help="answers to each of the neutral questions")] = 1,
    opening: Annotated[str, typer.Option(help="opens each answer, for small models: 'ACTION: answer'")] = "",
    seed: Annotated[int, typer.Option(min=0, help="of the answers")] = 0,
    device: Device = "auto",
) -> None:
    """Ask a run's policy off the record what it did, and compare it with what it stated: lie, honest, evade."""
    from launch.monitoring.belief import ask_run

    _tell(ask_run(run_dir, out, most=episodes, repeats=repeats, opening=opening, seed=seed, device=device))


def _one_of(option: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise UserError(f"{option} is {value!r}: choose one of {', '.join(known)}")


def _tell(lines: Sequence[str]) -> None:
    for line in lines:
        say(on_one_line(line))
