"""The section Seats: means over seeds of what results hold, and nothing where a study has no seats."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from launch.report.results import ArmView
from launch.report.sections.base import Part
from launch.report.sections.seats import Seats
from launch.report.table import NOTHING, interval

ARM = ArmView("shaped", "Shaped", "motivation", "#000000", 2)
SUMMARIES = {"elo": [80.0, 120.0], "elo_low": [10.0, 50.0], "elo_high": [150.0, 190.0], "games_deception": [0.25, 0.35]}


def row(seat: str, player: str, **values: float) -> dict[str, Any]:
    return {"world": "duel", "seat": seat, "player": player, "episodes": 4, **values}


def content(*results: Any) -> Any:
    found = SimpleNamespace(
        shown=[ARM],
        study=SimpleNamespace(of=lambda name: [SimpleNamespace(result={"seats": rows}) for rows in results]),
        cell=lambda arm, metric: interval(SUMMARIES[metric]) if metric in SUMMARIES else NOTHING,
    )
    return Seats().compute(found)  # type: ignore[arg-type]


def shown(found: Any) -> tuple[str, str]:
    made = Part(Seats(), found)
    return str(made.html()), made.markdown()


def test_each_policy_has_a_row_per_seat_and_each_arm_its_strength() -> None:
    first = [row("red", "learner", reward=0.2, deception=0.5), row("blue", "unshaped", reward=0.1)]
    second = [row("red", "learner", reward=0.4, deception=0.5), row("blue", "unshaped", reward=0.3)]
    for text in shown(content(first, second)):
        assert "0.30 [" in text and "0.20 [" in text, "means over the seeds"
        assert "100 [" in text and "30 to 170" in text, "Elo, and its interval within seeds"
        assert text.index("blue") < text.index("red") and "unshaped" in text


def test_studies_without_seats_have_no_section_and_what_is_no_row_is_left_out() -> None:
    assert content(None, []) is None
    assert content([7, {"seat": "red"}], "text") is None


def test_names_are_escaped() -> None:
    page, markdown = shown(content([row("<img src=x> | red", "learner", reward=1.0)]))
    assert "<img" not in page and "&lt;img" in page
    assert "<img" not in markdown and "\\|" in markdown
