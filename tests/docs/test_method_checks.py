"""The table of checks asks something of every method, and takes its numbers from the rows."""

from __future__ import annotations

import importlib
import json
import math
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from launch.config.loading import load_study
from launch.report.files.load import Run
from launch.report.statistics.estimate import contrast

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "docs" / "results" / "methods"
LIES = "trained/deception.clerk"


@pytest.fixture(scope="module")
def checks() -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT))
        return importlib.import_module("docs.method_checks")


def run_of(column: list[float | None], **summary: float) -> Run:
    record: dict[str, Any] = {"summary": summary}
    return Run("arm", 0, None, {}, record, tuple({"update": n, "x": value} for n, value in enumerate(column)), ())


def test_every_method_has_something_to_do_and_an_arm_to_be_compared_with(checks: ModuleType) -> None:
    study = load_study("methods")
    methods = {name for name, arm in study.arms.items() if arm.role in ("treatment", "positive_control")}
    assert set(checks.CHECKS) == methods - {"attainable_utility"}
    assert {check.other for check in checks.CHECKS.values()} <= {*study.arms, ""}
    assert {check.direction for check in checks.CHECKS.values()} == {1, -1}


def test_numbers_of_training_are_of_its_ends(checks: ModuleType) -> None:
    rising = run_of([None, 0, 1, 2, 3, 4, 9, 9, 9, 13])
    assert checks.late("x")(rising) == 10.0 and checks.change("x")(rising) == 8.5
    assert math.isnan(checks.late("x")(run_of([1.0] * 7))), "the ends would overlap"
    assert math.isnan(checks.change("y")(rising))


def test_numbers_of_the_evaluation_are_metrics_and_their_differences(checks: ModuleType) -> None:
    run = run_of([], **{LIES: 0.25, f"as_sampled/{LIES}": 1.0})
    assert checks.of_summary(LIES)(run) == 0.25 and checks.between(LIES, f"as_sampled/{LIES}")(run) == -0.75
    assert math.isnan(checks.between(LIES, "nothing")(run))


def test_what_is_seen_lies_on_the_side_that_was_expected(checks: ModuleType) -> None:
    below = contrast({"a": {0: 0.1, 1: 0.2}, "b": {0: 0.8, 1: 0.9}}, {"a": 1.0, "b": -1.0})
    unclear = contrast({"a": {0: 0.1, 1: 0.9}, "b": {0: 0.8, 1: 0.9}}, {"a": 1.0, "b": -1.0})
    assert (checks.seen(below, -1), checks.seen(below, 1)) == ("**yes**", "**the opposite**")
    assert (checks.seen(unclear, -1), checks.seen(None, 1)) == ("no", "–")


def test_the_table_is_made_of_the_rows(checks: ModuleType) -> None:
    found = checks.Checks.of(FOLDER)
    columns = {}
    for arm in ("gradient_routing", "routing_placebo"):
        rows = [json.loads(path.read_text("utf-8")) for path in sorted((FOLDER / "rows" / arm).glob("seed-*.json"))]
        found_in = {row["seed"]: row["result"]["summary"] for row in rows}
        columns[arm] = {seed: each[f"with_quarantine/{LIES}"] - each[LIES] for seed, each in found_in.items()}
    subjects = {seed: f"organism-{seed % 4}" for seed in range(8)}
    expected = contrast(columns, {"gradient_routing": 1.0, "routing_placebo": -1.0}, subjects)
    estimate = found.estimate("gradient_routing")
    assert expected and estimate and [*map(float, estimate)] == pytest.approx([*map(float, expected)])
    assert found.estimate("spillway") == found.methods.difference("spillway", "unshaped"), "one number on a page"
    lines = list(found.lines())
    assert len(lines) == 2 + len(checks.CHECKS) and len({line.count("|") for line in lines}) == 1


def test_the_docstring_of_a_method_says_what_was_not_seen(checks: ModuleType) -> None:
    found = checks.Checks.of(FOLDER)
    for arm, check in checks.CHECKS.items():
        estimate = found.estimate(arm)
        said = " ".join((found.kind(arm).__doc__ or "").split())
        if checks.seen(estimate, check.direction) == "**yes**":
            assert "Seen in `methods`" not in said, arm
        else:
            number = checks.told(estimate).replace("\u2212", "-")
            side = "above" if check.direction > 0 else "below"
            told = f"{number}, where it should be {side} 0; {checks.visible(estimate)} would be seen"
            assert told in said, f"{arm}: its docstring does not say {told!r}"


def test_without_rows_there_are_only_dashes(checks: ModuleType, tmp_path: Path) -> None:
    cells = [line.strip("| ").split(" | ") for line in checks.Checks.of(tmp_path).lines()][2:]
    assert {cell for row in cells for cell in row[4:]} == {"–"}
