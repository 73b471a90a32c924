"""No hook that trains can reach ground truth, by whatever attribute, in a whole run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from spying_plugins import CALLED, FOUND, TAKES_ARGUMENTS

from launch.config.loading import parse_study
from launch.run.execute import execute
from launch.storage.rundir import RunDirectory

CLERK = {"clerk": {"size": 2, "horizon": 3, "inquiry": 0.5}}
SPENT = {"use": "spying_plugins:SpyMonitor", "role": "train"}
WITH_EPISODES = {
    *("after_update", "cost", "cost_group", "credit", "episode_context", "gates", "readings", "rehearse", "screen"),
    "auxiliary_loss",
}
"""Hooks that are handed episodes, or what was made of them."""


def run(model: Path, path: Path, interventions: list[Any]) -> None:
    CALLED.clear()
    FOUND.clear()
    document = {
        "name": "small",
        "seeds": 1,
        "train": {"worlds": CLERK, "updates": 2, "groups": 2, "group_size": 2, "max_tokens": 8},
        "eval": {
            "worlds": CLERK, "episodes": 1, "access_episodes": 0, "monitors": [SPENT, "GroundTruth"],
            "alarms": {"then": {"spy": "drop"}},
        },
        "arms": {
            "one": {"role": "reference", "interventions": interventions, "reward": "spying_plugins:SpyReward"},
        },
    }  # fmt: skip
    execute(parse_study(document, "test").runs()[0], model, RunDirectory(path))


@pytest.fixture
def everything() -> list[Any]:
    labels = {"source": "monitor", "monitor": SPENT}
    return ["spying_plugins:Spy", {"use": "MonitorPenalty", "monitor": SPENT}, {"use": "Screening", "labels": labels}]


def test_no_hook_of_an_intervention_a_reward_or_a_monitor_reaches_a_label(
    model: Path, tmp_path: Path, everything: list[Any]
) -> None:
    run(model, tmp_path / "run", everything)
    assert dict(FOUND) == {}
    called = {name.partition(".")[2] for name in CALLED if name.startswith("Spy.")}
    assert called >= WITH_EPISODES, f"never called, so nothing is shown: {sorted(WITH_EPISODES - called)}"
    assert {"SpyReward.score_group", "SpyReward.score", "SpyMonitor.read"} <= CALLED.keys()
    others = {"allow", "sampling_context", "training_context", "prefill", "refresh", "deploy"}
    assert set(TAKES_ARGUMENTS) >= WITH_EPISODES | others


def test_one_that_declares_it_reaches_them_so_that_the_search_can_find_any(model: Path, tmp_path: Path) -> None:
    run(model, tmp_path / "run", ["spying_plugins:OracleSpy"])
    found = {name.partition(".")[2] for name in FOUND if name.startswith("OracleSpy.")}
    assert found >= {"credit", "gates", "cost_group", "cost", "screen", "readings", "after_update"}
    assert {name for name in FOUND if not name.startswith("OracleSpy.")} == set()
