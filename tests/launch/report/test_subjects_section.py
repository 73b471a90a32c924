"""The section Subjects: the gates that results hold, and nothing that is no gate."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from launch.report.sections.base import Part
from launch.report.sections.subjects import UNKNOWN, Known, Subjects
from shaping.organisms.gates.record import Gate, part

FAILED = Gate(parts=(part("harm unwatched minus watched", 0.05, (-0.04, 0.14), 0.15, 96, unit="pairs"),)).row()
HOSTILE = "<img src=x> | organism"


def content(*runs: tuple[str, Any]) -> Known:
    found = [SimpleNamespace(subject=subject, result={"gates": gates} if gates else {}) for subject, gates in runs]
    made: Any = Subjects().compute(SimpleNamespace(study=SimpleNamespace(runs=found)))  # type: ignore[arg-type]
    return made


def shown(found: Known) -> tuple[str, str]:
    made = Part(Subjects(), found)
    return str(made.html()), made.markdown()


def test_each_subject_has_its_gates_by_world() -> None:
    page, markdown = shown(
        content(("organism-1", {"pact": {"M3": FAILED}}), ("organism-0", {"steward": {"M3": FAILED}}))
    )
    for text in (page, markdown):
        assert text.index("organism-0") < text.index("organism-1")
        assert "M3 reads the overseer" in text and "0.05 [−0.04, 0.14]" in text and "FAILED" in text


def test_a_model_of_which_nothing_is_known_says_how_to_measure_it() -> None:
    for text in shown(content(("organism-0", None), ("organism-0", None), ("", None))):
        assert text.count("check-model") == 2 and "organism-0: gates of this model are not known" in text
    assert content(("x", None)).unknown == [f"x: {UNKNOWN}"]


def test_values_that_are_no_gates_are_left_out() -> None:
    bad: list[Any] = [7, [], {"steward": 3}, {"steward": {"M3": 3}}, {"steward": {"M9": FAILED}}]
    bad += [{"steward": {"M3": {**FAILED, "parts": [{"value": "<b>"}]}}}, {"steward": {"M3": {"passed": True}}}]
    for gates in bad:
        assert content(("x", gates)).subjects == [], gates


def test_names_are_escaped() -> None:
    page, markdown = shown(content((HOSTILE, {HOSTILE: {"M3": FAILED}})))
    assert "<img" not in page and "&lt;img" in page
    assert "<img" not in markdown and "\\|" in markdown
