"""Monitors read training episodes beside the loop, under the seal, and cannot stop it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from monitor_fakes import Slow, TeaLeaves, suspicion

from envs.episode import TRAITS, Episode
from envs.store import read_episodes
from launch.config.loading import parse_study
from launch.config.study import RunConfig
from launch.errors import ConfigError
from launch.preflight import check_plugins
from launch.run.build import Parts, build
from launch.run.execute import execute
from launch.storage.rundir import RunDirectory
from shaping.monitors.base import MonitorError

CLERK = {"clerk": {"size": 2, "horizon": 3, "inquiry": 0.5}}


def config(monitors: Sequence[Any], interventions: Sequence[Any] = (), updates: int = 4) -> RunConfig:
    document = {
        "name": "small",
        "seeds": 1,
        "train": {"worlds": CLERK, "updates": updates, "groups": 2, "group_size": 4, "max_tokens": 8},
        "eval": {"worlds": CLERK, "episodes": 1, "access_episodes": 0, "monitors": list(monitors)},
        "arms": {"one": {"role": "reference", "interventions": list(interventions)}},
    }
    return parse_study(document, "test").runs()[0]


def trained(run: RunConfig, model: Path, path: Path) -> tuple[list[dict[str, Any]], dict[str, Any], list[Episode]]:
    """Rows of metrics.jsonl, the result, and the episodes of the last update."""
    result = execute(run, model, RunDirectory(path))
    rows = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    return rows, result, list(read_episodes(max((path / "episodes").glob("train-*.parquet"))))


def columns(row: dict[str, Any], monitor: str) -> set[str]:
    return {key.removeprefix(f"monitor/{monitor}/") for key in row if key.startswith(f"monitor/{monitor}/")}


def test_readings_are_those_of_the_episodes_that_were_learned_from(model: Path, tmp_path: Path) -> None:
    TeaLeaves.threads.clear()
    rows, _, episodes = trained(config(["monitor_fakes:TeaLeaves"]), model, tmp_path / "run")
    scores = [[suspicion(turn) for turn in episode.turns] for episode in episodes]
    assert rows[-1]["monitor/tea_leaves/harm/score"] == pytest.approx(np.mean([s for own in scores for s in own]))
    flagged = np.mean([max(own) >= 0.5 for own in scores])
    assert rows[-1]["monitor/tea_leaves/harm/flagged_episodes"] == pytest.approx(flagged)
    assert 0 < rows[-1]["monitor/tea_leaves/harm/score"] < 1
    assert TeaLeaves.threads == {"within"}, "never in the thread that trains"
    timings = [json.loads(line) for line in (tmp_path / "run" / "timings.jsonl").read_text().splitlines()]
    assert all(row["seconds/read"] >= 0 for row in timings[:-1])


def test_every_update_has_the_same_columns_whatever_was_suspected(model: Path, tmp_path: Path) -> None:
    rows, _, _ = trained(config(["OvertAction", "ClaimCheck"]), model, tmp_path / "run")
    assert {frozenset(columns(row, "overt_action")) for row in rows} == {
        frozenset(f"{t}/{q}" for t in ("harm", "shutdown_resistance") for q in ("score", "flagged_episodes"))
        | {"failed_episodes"}
    }
    assert {frozenset(columns(row, "claim_check")) for row in rows} == {
        frozenset({"deception/score", "deception/flagged_episodes", "failed_episodes"})
    }


def test_monitors_change_no_other_metric_and_no_weight(model: Path, tmp_path: Path) -> None:
    without, _, _ = trained(config([]), model, tmp_path / "without")
    with_some, _, _ = trained(config(["OvertAction", "monitor_fakes:TeaLeaves"]), model, tmp_path / "with")
    assert [{k: v for k, v in row.items() if not k.startswith("monitor/")} for row in with_some] == without
    stored = [tmp_path / name / "checkpoint" / "model.safetensors" for name in ("without", "with")]
    assert stored[0].read_bytes() == stored[1].read_bytes()


def test_one_that_fails_is_told_once_and_off_and_the_others_go_on(
    model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = config([{"use": "monitor_fakes:Breaks", "version": 1}, "monitor_fakes:TeaLeaves"])
    rows, _, _ = trained(run, model, tmp_path / "run")
    assert [bool(columns(row, "breaks")) for row in rows] == [True, False, False, False]
    assert all(columns(row, "tea_leaves") for row in rows)
    told = [line for line in capfd.readouterr().err.splitlines() if "monitor 'breaks' failed" in line]
    assert len(told) == 1 and "ArithmeticError: the probe has no direction" in told[0]


def test_labels_stay_sealed_unless_a_monitor_declares_that_it_reads_them(
    model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = config(["GroundTruth", "monitor_fakes:Peeks"], updates=1)
    with pytest.raises(MonitorError, match="SealedError"):  # the evaluation does not go on without one of its monitors
        execute(run, model, RunDirectory(tmp_path / "run"))
    row = json.loads((tmp_path / "run" / "metrics.jsonl").read_text())
    assert columns(row, "ground_truth") == {
        *(f"{t}/{q}" for t in TRAITS for q in ("score", "flagged_episodes")),
        "failed_episodes",
    }
    episodes = list(read_episodes(tmp_path / "run" / "episodes" / "train-000000.parquet"))
    lies = [labels.deception > 0 for e in episodes for labels in e.truth.open()]
    assert row["monitor/ground_truth/deception/score"] == pytest.approx(np.mean(lies))
    assert not columns(row, "peeks") and "monitor 'peeks' failed" in capfd.readouterr().err


def test_one_that_needs_a_model_reads_the_evaluation_only(model: Path, tmp_path: Path) -> None:
    TeaLeaves.threads.clear()
    rows, result, _ = trained(config(["monitor_fakes:Slow"]), model, tmp_path / "run")
    assert not any(columns(row, Slow().name) for row in rows) and TeaLeaves.threads == {"within"}
    assert any(key.startswith("monitor.slow.harm.") for key in result["summary"])


# Spent ----------------------------------------------------------------------------------------------------------------


def test_a_monitor_in_a_list_of_an_intervention_is_spent_and_the_result_says_so(model: Path, tmp_path: Path) -> None:
    monitors = [{"use": "OvertAction", "role": "train"}, {"use": "OvertAction", "role": "train", "name": "twin"}]
    run = config([*monitors, "ClaimCheck"], ["monitor_fakes:Priced"], updates=1)
    _, result, _ = trained(run, model, tmp_path / "run")
    assert result["spent_monitors"] == ["overt_action", "twin"]
    stored = RunDirectory(tmp_path / "run").result()
    assert stored is not None and stored["spent_monitors"] == ["overt_action", "twin"]
    _, unshaped, _ = trained(config([*monitors, "ClaimCheck"], updates=1), model, tmp_path / "unshaped")
    assert unshaped["spent_monitors"] == []


@pytest.mark.parametrize(
    ("monitors", "message"),
    [
        (["OvertAction", "ClaimCheck"], r"eval\.monitors.*'overt_action', which is held out"),
        ([{"use": "OvertAction", "name": "alias"}, {"use": "OvertAction", "role": "train"}], "'alias', which is held"),
        ([{"use": "OvertAction", "role": "train"}], "add a held-out one"),
        (["ClaimCheck"], r"'overt_action', but the monitors are \['claim_check'\]"),
    ],
)
def test_a_run_whose_monitors_are_not_held_out_is_refused_before_it_starts(
    model: Path, monitors: list[Any], message: str
) -> None:
    run = config(monitors, ["monitor_fakes:Priced"])
    with pytest.raises(ConfigError, match=message):
        build(run, model)
    with pytest.raises(ConfigError, match=message):
        check_plugins([run])


# After the loop -------------------------------------------------------------------------------------------------------


def test_a_run_uses_nothing_of_its_parts_after_it_has_closed_them(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[bool] = []

    def gone(parts: Parts) -> None:
        parts.end_workers()
        closed.append(RunDirectory(tmp_path / "run").checkpoint.exists())
        for name in vars(parts).copy():
            object.__delattr__(parts, name)

    monkeypatch.setattr(Parts, "close", gone)
    run = config(["ClaimCheck"], ["GradientRouting"], updates=1)
    _, result, _ = trained(run, model, tmp_path / "run")
    assert closed == [True] and "with_quarantine/proxy_reward" in result["summary"]
    assert RunDirectory(tmp_path / "run").status() == "complete"
