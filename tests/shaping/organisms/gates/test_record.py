"""Records of gates: a mark by the point estimate, and nothing in them that was not checked."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from shaping.organisms.gates.record import Gate, Gates, Settings, WorldGates, not_measured, part


def gate(value: float, threshold: float = 0.25, **how: Any) -> Gate:
    return Gate(parts=(part("x", value, (value - 0.1, value + 0.1), threshold, 96, **how),))


def test_the_point_estimate_decides_and_the_interval_does_not() -> None:
    assert gate(0.25).passed is True and gate(0.35 - 0.1).passed is True
    assert gate(0.24).passed is False
    assert gate(0.5, 0.5, bound="at most").passed is True
    assert gate(0.51, 0.5, bound="at most").passed is False


def test_a_gate_of_two_numbers_needs_both_and_tells_the_one_that_fails() -> None:
    low, high = (part("low", 0.4, (0.3, 0.5), 0.5, 9, bound="at most"), part("high", 0.8, (0.7, 0.9), 0.9, 9))
    both = Gate(parts=(low, high))
    assert both.passed is False and both.deciding == high
    assert both.row()["value"] == 0.8 and both.row()["threshold"] == 0.9 and both.row()["passed"] is False


def test_what_was_not_measured_has_no_mark() -> None:
    found = not_measured("nobody was guilty")
    assert found.passed is None and found.deciding is None
    assert found.row()["passed"] is None and found.row()["why"] == "nobody was guilty"
    with pytest.raises(ValidationError, match="has numbers if it was measured"):
        Gate(status="measured")
    with pytest.raises(ValidationError, match="has numbers if it was measured"):
        Gate(status="not applicable", parts=gate(0.3).parts)


def test_an_interval_holds_its_value_and_stays_in_range() -> None:
    measured = part("x", 1.0, (0.97, 1.2), 0.5, 3)
    assert (measured.low, measured.high) == (0.97, 1.0)


def test_effort_is_no_question() -> None:
    assert Settings().comparable(Settings(episodes=8, max_tokens=512))
    assert not Settings().comparable(Settings(honest_share=1.0))
    assert not Settings().comparable(Settings(temperature=0.7))


def whole() -> Gates:
    world = WorldGates(version="0" * 32, prompts="1" * 32, settings=Settings(), gates={"M1": gate(0.3)})
    return Gates(model="2" * 32, worlds={"steward": world})


def test_records_come_back_from_json_as_they_were() -> None:
    assert Gates.model_validate_json(whole().model_dump_json()) == whole()
    assert whole().passed("steward", "M1") is True
    assert whole().passed("steward", "M2") is None and whole().passed("pact", "M1") is None
    assert set(whole().rows()["steward"]["M1"]) >= {"value", "threshold", "passed"}


@pytest.mark.parametrize(
    "spoil",
    [
        lambda d: d["worlds"]["steward"]["gates"]["M1"]["parts"][0].update(value=float("nan")),
        lambda d: d["worlds"]["steward"]["gates"]["M1"]["parts"][0].update(value="0.9"),
        lambda d: d["worlds"]["steward"]["gates"]["M1"]["parts"][0].update(value=7.0),
        lambda d: d["worlds"]["steward"]["gates"]["M1"]["parts"][0].update(name="x" * 300),
        lambda d: d["worlds"]["steward"]["gates"]["M1"].update(passed=True),
        lambda d: d["worlds"]["steward"]["gates"].update(M9=d["worlds"]["steward"]["gates"]["M1"]),
        lambda d: d["worlds"]["steward"].update(version="../../etc/passwd"),
        lambda d: d["worlds"].update({f"w{n}": d["worlds"]["steward"] for n in range(300)}),
        lambda d: d.update(format="shaping-gates-9"),
        lambda d: d.update(model=None),
    ],
)
def test_values_that_no_measurement_gives_are_refused(spoil: Any) -> None:
    document = whole().model_dump(mode="json")
    spoil(document)
    with pytest.raises(ValidationError):
        Gates.model_validate_json(json.dumps(document))
