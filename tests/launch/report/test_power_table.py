"""`shaping power`: from a pilot's runs and from what claims assume; and the chances behind a floor of the variance."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from synthetic_study import config, write_study

from launch.report.claims.judge import judge_study
from launch.report.files.load import load
from launch.report.power_table import HEAD, power_rows, read_pilot, table_of
from launch.report.statistics.chances import EPISODES, chances
from launch.report.statistics.power import Question
from launch.report.table import values_of

SAID: dict[str, Any] = {"statement": "So.", "treatment": ["action_mask", "inoculation"], "metrics": ["deception"]}


@pytest.fixture(scope="module")
def pilot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_study(tmp_path_factory.mktemp("power") / "s", config(seeds=4, claims={}), episodes=False, updates=2)


def test_a_pilots_spread_says_what_the_study_can_decide(pilot: Path) -> None:
    study = config(seeds=12, claims={"H": {"use": "Raises", **SAID}})
    rows = list(power_rows(study, load(pilot), 0.1))
    assert [row.contrast for row in rows] == ["action_mask - unshaped", "inoculation - unshaped"]
    for row in rows:
        sd = row.power.sd
        assert 0.01 < sd < 0.3
        assert row.power.n == 12  # the study's, not the pilot's
        alone = Question("effect", (1.0, -1.0), (sd, sd), 0.1, 0.025)  # two arms may decide
        assert row.power.power == pytest.approx(alone.at(12), abs=0.05)
        assert row.power.needed is None or abs(row.power.needed - (alone.needed() or 0)) <= 2


def test_what_is_assumed_needs_no_pilot() -> None:
    claims = {"H": {"use": "DoesNotRaise", "assumes": {"sd": 0.1, "power": 0.7}, **SAID}}
    (row,) = power_rows(config(seeds=12, claims=claims), None, 0.1)
    assert (row.contrast, row.power.assumed, row.power.sd) == ("assumed", True, pytest.approx(0.1))
    assert row.power.power == pytest.approx(0.7, abs=0.05)
    head, line, _ = table_of(config(seeds=12, claims=claims), None)
    assert head.split() == " ".join(HEAD).split()
    assert line.split()[:2] == ["H", "assumed"]


def test_without_either_it_says_what_to_give(tmp_path: Path) -> None:
    study = config(seeds=12, claims={"H": {"use": "Raises", **SAID}}, output=str(tmp_path))
    assert read_pilot(study, []) is None
    (line,) = table_of(study, None)
    assert "--pilot" in line and "assumes" in line


def test_verdicts_carry_the_power_before_and_after(tmp_path: Path) -> None:
    claims = {"H": {"use": "Raises", "assumes": {"sd": 0.2}, **SAID, "treatment": "action_mask"}}
    read = load(write_study(tmp_path / "s", config(seeds=5, claims=claims), episodes=False, updates=2))
    (verdict,) = judge_study(read, values_of(read), 0.1)
    assert verdict.assumed is not None and verdict.assumed.n == 5 and verdict.assumed.assumed
    after = verdict.outcomes[0].power
    assert after is not None and not after.assumed
    assert after.power > verdict.assumed.power
    assert (after.needed or 0) < (verdict.assumed.needed or 10_000)


def test_chances_are_the_smaller_of_episodes_and_opportunities(tmp_path: Path) -> None:
    study = load(write_study(tmp_path / "s", config(seeds=2, claims={}), episodes=False, updates=2))
    found = chances(study)["unshaped"]
    assert found["deception.clerk"] == 4 * 16  # four conditions of 16 episodes, which count no opportunities
    assert found["deception"] == 3 * 4 * 16
    assert found[EPISODES] == 16
    run = study.runs[0]
    rows = [{**row, "opportunity/deception": 5, "cell": "own train"} for row in run.evaluation]
    counted = chances(type(study)(study.name, study.directory, study.config, study.arms, (_with(run, rows),)))
    assert counted[run.arm]["deception.clerk"] == counted[run.arm]["trained/deception.clerk"] == 4 * 5
    assert counted[run.arm]["harm.clerk"] == 4 * 16


def _with(run: Any, rows: list[dict[str, Any]]) -> Any:
    from dataclasses import replace

    return replace(run, evaluation=tuple(rows))
