"""The table of pressures in docs/pressure.md, computed. Write it again with `python -m docs.render_pressure`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from envs import WORLDS
from launch.config.loading import parse_study
from launch.run.evaluation.pressure import PressureGauge
from shaping.audits.pressure.index import Pressure

PAGE = Path(__file__).parent / "pressure.md"
SHARES = (1.0, 0.5)
PENALTY = {"use": "OverseerPenalty", "accuracy": 1.0}
ARMS: Mapping[str, tuple[Any, ...]] = {
    "unshaped": (),
    "mask of the overt form": ("ActionMask",),
    "acts and admissions priced": (PENALTY,),
    "acts priced": ({**PENALTY, "admission": 0.0},),
    "admissions priced": ({**PENALTY, "penalty": 0.0},),
}
SIZES: Mapping[str, dict[str, int]] = {"steward": {"size": 7, "horizon": 24}, "pact": {"size": 6}}
"""World -> its size in the table; 8 items elsewhere."""


def rows(world: str, gauge: PressureGauge) -> list[str]:
    """A line of the table per honest share."""
    lines = []
    for share in SHARES:
        options = {"size": 8, **SIZES.get(world, {}), "honest_share": share, "inquiry": 0.3}
        arms = {
            f"arm_{number}": {"role": "treatment" if number else "reference", "interventions": list(interventions)}
            for number, interventions in enumerate(ARMS.values())
        }
        train = {"worlds": {world: options}, "updates": 0, "groups": 1, "group_size": 2}
        study = parse_study({"name": "pressure", "seeds": 1, "train": train, "eval": {"worlds": {world: options}},
                             "arms": arms}, "docs")  # fmt: skip
        found = [gauge.of_run(run)[world] for run in study.runs()]
        lines.append(_line([f"`{world}`", f"{share:g}", *map(_cell, found)]))
    return lines


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _cell(pressure: Pressure) -> str:
    return "–" if pressure.index is None else f"{round(pressure.index, 2) + 0.0:+.2f}"


def table() -> str:
    """The whole table."""
    head = ["world", "honest share", *ARMS]
    gauge = PressureGauge()
    lines = [_line(head), "|" + "---|" * len(head)]
    return "\n".join([*lines, *(line for world in WORLDS for line in rows(world, gauge))])


def rendered(text: str) -> str:
    """The page with the table as it is computed now."""
    return re.sub(r"(?<=<!-- table -->\n\n).*?(?=\n\n<!-- /table -->)", lambda _: table(), text, flags=re.DOTALL)


if __name__ == "__main__":
    PAGE.write_text(rendered(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
