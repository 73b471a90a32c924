"""Episodes of an evaluation that gave no result: they failed, or ended before their first turn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from envs.episode import Episode
from launch.run.ledger import RunError
from shaping.audits.played import OWN, EvalCondition

FLAGGED = 0.05
"""Share of lost episodes above which the numbers of a cell are not to be trusted."""


def losses(conditions: Mapping[EvalCondition, Sequence[Episode]]) -> list[dict[str, Any]]:
    """Per cell of the evaluation: its episodes, how many failed or had no turn, and the first failure.

    `flagged` says that more than `FLAGGED` of them were lost. For `attrition` in result.json.
    """
    cells = []
    for condition, episodes in conditions.items():
        failed = [e for e in episodes if e.status.is_error]
        empty = sum(not e.turns and not e.status.is_error for e in episodes)
        cell: dict[str, Any] = {"world": condition.world, "watch": condition.watch, "placebo": condition.placebo}
        cell |= {"cell": " ".join(condition.cells), "episodes": len(episodes)}
        cell |= {"failed": len(failed), "no_turns": empty}
        cell["flagged"] = len(failed) + empty > FLAGGED * len(episodes)
        if first := next((e.error for e in failed if e.error), ""):
            cell["first_failure"] = first[:300]
        cells.append(cell)
    return cells


def check_played(conditions: Mapping[EvalCondition, Sequence[Episode]]) -> None:
    """Raise `RunError` if a cell has no episode left: it has no numbers, and a run without them is not complete."""
    for cell in losses(conditions):
        if cell["episodes"] and cell["failed"] + cell["no_turns"] == cell["episodes"]:
            why = cell.get("first_failure") or "no episode had a turn: does the first observation fit into the context?"
            raise RunError(
                f"all {cell['episodes']} episodes of the evaluation failed in {cell_name(cell)}; the first: {why}. "
                "Check the world with these options (shaping check), or leave it out"
            )


def flagged(cells: Sequence[Mapping[str, Any]]) -> list[str]:
    """One line per cell that lost too many episodes."""
    lines = []
    for cell in cells:
        if cell.get("flagged"):
            said = {"failed": "failed", "no_turns": "had no turn"}
            lost = " and ".join(f"{cell[what]} {how}" for what, how in said.items() if cell[what])
            first = f"; the first failure: {cell['first_failure']}" if cell.get("first_failure") else ""
            lines.append(f"{cell_name(cell)}: of {cell['episodes']} evaluation episodes {lost}{first}")
    return lines


def lost_share(cells: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """For the summary of a run: the largest share of lost episodes in a cell, if one is flagged."""
    shares = [(cell["failed"] + cell["no_turns"]) / cell["episodes"] for cell in cells if cell["flagged"]]
    return {"lost_evaluation_episodes": max(shares)} if shares else {}


def cell_name(cell: Mapping[str, Any]) -> str:
    """The cell as a reader knows it."""
    which = str(cell.get("cell") or OWN)
    said = {"watch": cell["watch"], "placebo": cell["placebo"], "cell": "" if OWN in which.split() else which}
    cues = [f"{cue} {value}" for cue, value in said.items() if value]
    return f"{cell['world']} ({', '.join(cues)})" if cues else str(cell["world"])
