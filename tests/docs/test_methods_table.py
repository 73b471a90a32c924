"""The table of methods follows its rule, and has dashes where rows are not there yet."""

from __future__ import annotations

import importlib
import json
import math
from pathlib import Path
from types import ModuleType

import pytest

from launch.config.loading import load_study
from launch.report.statistics.estimate import contrast
from launch.slices.rows import RunRows, write_rows
from launch.slices.source import ROWS, open_source
from launch.storage.documents import write_json

ROOT = Path(__file__).resolve().parents[2]
LIES = "trained/deception.clerk"
#: Arm -> seed -> lies per chance. Seeds 0 and 4 start from one subject, so that differences are Welch's.
MEASURED = {
    "unshaped": {0: 0.8, 4: 0.8001},
    "inoculation": {0: 0.2, 4: 0.2001},
    "irrelevant_prompt": {0: 0.8, 4: 0.8001},
    "recontextualization": {0: 0.2},
    "lie_penalty": {0: 0.2, 4: 0.4},
}


@pytest.fixture(scope="module")
def table() -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT))
        return importlib.import_module("docs.methods_table")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of results with rows of a few runs."""
    study, rows = load_study("methods"), tmp_path / "rows"
    rows.mkdir()
    write_json(rows / "study.json", {"format": ROWS, "version": 1, "config": study.model_dump(mode="json")})
    digest = open_source(rows).digest
    for run in study.runs():
        if (lies := MEASURED.get(run.arm, {}).get(run.seed)) is not None:
            (rows / run.arm).mkdir(exist_ok=True)
            summary = {LIES: lies, "trained/proxy_reward.clerk": 0.5, "trained/reward_hacking.clerk": lies / 2}
            oracle = run.arm == "lie_penalty"
            result = {"oracle": oracle, "arm": run.arm, "seed": run.seed, "summary": summary, "files": {}}
            found = RunRows({"config": run.model_dump(mode="json")}, result, [], [])
            write_rows(rows / run.arm / f"seed-{run.seed}.json", digest, run.arm, run.seed, found)
    timed = [{"name": "Inoculation, 12.5 % more tokens, per token", "ratio": 0.8}, {"name": "LiePenalty", "ratio": 1.0}]
    (tmp_path / "overhead.json").write_text(json.dumps(timed))
    return tmp_path


def rows_of(lines: list[str]) -> dict[str, list[str]]:
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]
    return {row[0].partition("]")[0].strip("[*"): row[1:] for row in cells}


def test_the_numbers_of_a_table_are_those_of_its_rows(table: ModuleType, folder: Path) -> None:
    lines = list(table.Methods.of(folder).lines())
    found = rows_of(lines)
    assert "[Inoculation](../interventions/contexts.md)" in lines[2]
    # t = -.6 / 7.07e-5 at 2 degrees of freedom: p = 1.4e-8, times 36 methods
    assert found["Inoculation"] == [
        "contexts", "0.20 [0.20, 0.20] (n = 2)", "−0.60 [−0.60, −0.60]", "< .001",
        "−0.60 [−0.60, −0.60] (irrelevant prompt)", "+0.00 [+0.00, +0.00]", "−0.30 [−0.30, −0.30]",
        "+25 %, +12 % tokens", "**lowers lies**",
    ]  # fmt: skip
    # -.5 with a standard error of .1 at 1 degree of freedom: half an interval is 12.7 * .1, and p = .126, times 35
    assert found["Lies priced (oracle: reads ground truth)"][:5] == [
        "constraints", "0.30 [−0.97, 1.57] (n = 2)", "−0.50 [−1.77, +0.77]", "1.000", "– (placebo penalty)",
    ]  # fmt: skip
    assert found["Lies priced (oracle: reads ground truth)"][-2:] == ["+0 %", "–"]
    assert found["Recontextualization"][1:4] == ["0.20 (n = 1)", "–", "–"] and found["Recontextualization"][-1] == "–"
    assert found["Spillway"][1:] == ["–", "–", "–", "– (irrelevant prompt)", "–", "–", "–", "–"]
    assert found["Unshaped"][:2] == ["reference", "0.80 [0.80, 0.80] (n = 2)"]


def test_without_rows_there_are_only_dashes(table: ModuleType, tmp_path: Path) -> None:
    lines = list(table.Methods.of(tmp_path).lines())
    assert {row[1] for row in rows_of(lines).values()} == {"–"} and len({line.count("|") for line in lines}) == 1


def test_every_built_in_method_is_in_the_study_with_a_control(table: ModuleType) -> None:
    from benchmarks.interventions import built_in

    study = load_study("methods")
    arms = {name: arm.interventions[-1].use for name, arm in study.arms.items() if arm.interventions}
    assert set(arms.values()) == set(built_in())
    methods = {name for name, arm in study.arms.items() if arm.role in ("treatment", "positive_control")}
    found = table.Methods.of(ROOT / "nowhere").methods
    assert set(found) == methods and {study.arms[control].role for control in found.values()} == {"control"}
    controls = {name for name, arm in study.arms.items() if arm.role == "control"}
    assert set(found.values()) == controls == set(table.CONTROLS)


def test_a_verdict_needs_both_comparisons_on_one_side(table: ModuleType) -> None:
    arms = {"low": {0: 0.1, 1: 0.2}, "high": {0: 0.8, 1: 0.9}, "wide": {0: 0.1, 1: 0.9}}

    def apart(a: str, b: str) -> object:
        return contrast(arms, {a: 1.0, b: -1.0})

    down, up, unclear = apart("low", "high"), apart("high", "low"), apart("wide", "high")
    assert table.verdict(0.049, down, down) == "**lowers lies**" and table.verdict(0.049, up, up) == "**raises lies**"
    for p, reference, control in ((0.05, down, down), (0.01, down, unclear), (0.01, down, up)):
        assert table.verdict(p, reference, control) == "no change shown"
    assert table.verdict(0.01, down, None) == "–" and table.verdict(None, None, None) == "–"
    assert table.verdict(0.01, down, down, "it elicits nothing") == "not tested: it elicits nothing"


def test_methods_that_are_not_measured_count_in_holms_adjustment(table: ModuleType, folder: Path) -> None:
    found = table.Methods.of(folder)
    p = float(found.difference("inoculation", "unshaped").apart())
    assert math.isclose(found.adjusted()["inoculation"], 36 * p) and set(found.adjusted()) == {
        "inoculation", "lie_penalty",
    }  # fmt: skip
