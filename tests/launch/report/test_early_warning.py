"""The section Early warning, and the log of alarms in a run."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from launch_fakes import study

from launch.errors import ConfigError
from launch.report.results import ArmView
from launch.report.sections.base import Part
from launch.report.sections.training.early_warning import ESTIMATED, EarlyWarning
from launch.run.alarm_log import AlarmLog
from shaping.audits.training.alarm import Gauge

ARM = ArmView("priced", "<b>Priced</b>", "constraint", "#000000", 2)
GAUGE = Gauge(updates=2, level=0.97725, traits=["deception"])


def run(seed: int, shares: list[float], *, scored: bool = True) -> Any:
    rows = [
        {"update": n, "selection/deception": 0.2, "deceptive_episodes": share, "trained": 100}
        | ({"selection_band/deception": 0.1, "selection_score/deception": 3.0} if scored else {})
        for n, share in enumerate(shares)
    ]
    return SimpleNamespace(arm="priced", seed=seed, train=tuple(rows))


def content(*runs: Any) -> Any:
    study = SimpleNamespace(runs=runs, config=SimpleNamespace(gauge=GAUGE), of=lambda name: runs)
    return EarlyWarning().compute(SimpleNamespace(study=study, shown=[ARM]))  # type: ignore[arg-type]


RISING = [0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.5, 0.5]


def test_alarms_and_leads_of_every_arm_are_shown() -> None:
    found = content(run(0, RISING), run(1, [0.1] * 8))
    # scores are above from update 0 on, so that the alarm of the gauge is with update 1, and that of the lead, which
    # begins with update 2, with update 3; 50 of 100 episodes lift updates 5 and 6 above what 20 of 200 make likely
    part = Part(EarlyWarning(), found)
    page, markdown = str(part.html()), part.markdown()
    for text in (page, markdown):
        assert "2 of 2, first with update 1, 1" in text
        assert "3.0" in text and "all arms" in text and "deceptive" in text
        assert ESTIMATED not in text and "<b>" not in text
    assert "| 2    | 1              | 1            | 0                  | 0     | 0     | 1           | 3.0" in markdown


def test_rows_without_scores_say_so_and_rows_without_selection_make_no_section() -> None:
    old = Part(EarlyWarning(), content(run(0, RISING, scored=False)))
    assert ESTIMATED in str(old.html()) and ESTIMATED in old.markdown()
    assert content(SimpleNamespace(arm="priced", seed=0, train=({"update": 0, "reward": 1.0},))) is None


def test_an_alarm_is_logged_when_it_begins_and_not_again_after_a_resume() -> None:
    said: list[str] = []
    rows = run(0, RISING).train
    config: Any = SimpleNamespace(gauge=GAUGE)
    log = AlarmLog(config, log=said.append)
    for number, row in enumerate(rows[:4]):
        log.see(SimpleNamespace(number=number, row=row))  # type: ignore[arg-type]
    assert len(said) == 1 and said[0].startswith("update 1: training has selected for deception for 2 updates")
    resumed = AlarmLog(config, rows[:4], said.append)
    resumed.see(SimpleNamespace(number=4, row=rows[4]))  # type: ignore[arg-type]
    assert len(said) == 1


def test_a_study_says_when_the_alarm_rings_and_runs_stay_the_same(tmp_path: Path) -> None:
    asked = {"rule": "streak", "updates": 7, "traits": ["deception"]}
    plain, changed = (study(tmp_path, {"unshaped": ""}, **more) for more in ({}, {"gauge": asked}))
    (before,), (after,) = plain.runs()[:1], changed.runs()[:1]
    assert before.gauge == Gauge() and after.gauge == Gauge.model_validate(asked)
    assert before.digest == after.digest and "gauge" not in after.model_dump()
    with pytest.raises(ConfigError, match=r"gauge\.traits\.0: .*greed"):
        study(tmp_path, {"unshaped": ""}, gauge={"traits": ["greed"]})
