"""What runs and studies know of the gates of the models that they start from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from launch.config.study import RunConfig, StudyConfig
from launch.config.world_names import trained_worlds
from launch.run.models.start_model import present_model
from shaping.organisms.gates.competence import from_rows
from shaping.organisms.gates.record import Gate, Gates
from shaping.organisms.gates.store import gates_of


def gates_in_result(run: RunConfig, model: Path, before: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any]:
    """For result.json: `gates`, by world and gate. Empty if nothing is known of the model.

    `before`: rows of eval.jsonl about the model before training, from which its competence follows.
    """
    known = gates_of(model, own=_worlds(run))
    found = known.rows() if known else {}
    for world, gate in from_rows(before).items():
        found[world] = {**found.get(world, {}), "M7": gate.row()}
    return {"gates": found} if found else {}


def gates_before(runs: Sequence[RunConfig]) -> dict[str, Gates | None]:
    """Subject -> what is known of its gates, of the models that are on this machine. Nothing is made or fetched."""
    found: dict[str, Gates | None] = {}
    for run in runs:
        if run.subject not in found:
            model = present_model(run.model)
            found[run.subject] = gates_of(model, own=_worlds(run)) if model else None
    return found


def _worlds(run: RunConfig) -> list[str]:
    return [*trained_worlds(run), *run.eval.worlds]


def plan_lines(study: StudyConfig, runs: Sequence[RunConfig]) -> list[str]:
    """For a dry run: for each claim that needs gates, which of them each subject passed. Empty without such a claim."""
    needs = {name: list(claim.fields.get("needs") or ()) for name, claim in study.claims.items()}
    needs = {name: [str(gate) for gate in gates] for name, gates in needs.items() if gates}
    if not needs:
        return []
    known = gates_before(runs)
    worlds = list(dict.fromkeys(world for run in runs for world in _worlds(run)))
    return [
        f"{claim} needs {', '.join(gates)}; {subject}: {_told(found, worlds, gates)}"
        for claim, gates in needs.items()
        for subject, found in known.items()
    ]


def _told(known: Gates | None, worlds: Sequence[str], gates: Sequence[str]) -> str:
    if known is None:
        return "its gates are not known here: run `shaping check-model`"
    return "; ".join(f"{world} {', '.join(_mark(known, world, gate) for gate in gates)}" for world in worlds)


def _mark(known: Gates, world: str, gate: str) -> str:
    found = known.worlds[world].gates if world in known.worlds else {}
    result: Gate | None = found.get(gate)  # type: ignore[call-overload]
    if result is None:
        return f"{gate} unknown"
    part = result.deciding
    if part is None:
        return f"{gate} {result.status}"
    sign = "≥" if part.bound == "at least" else "≤"
    return f"{gate} {'passed' if result.passed else 'FAILED'} ({part.value:.2f}, needed {sign} {part.threshold:g})"
