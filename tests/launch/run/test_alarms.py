"""What follows from records of monitors is the study's policy: log, drop, substitute or halt."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from monitor_fakes import TeaLeaves, suspicion
from scripted_episodes import groups

from envs.episode import Episode
from envs.store import read_episodes
from launch.config.alarms import AlarmsConfig
from launch.config.loading import parse_study
from launch.config.study import RunConfig
from launch.errors import ConfigError
from launch.preflight import check_plugins
from launch.run.evaluation.alarms import AlarmHalt, AlarmPolicy, honest_thresholds
from launch.run.evaluation.evaluate import evaluate
from launch.run.evaluation.monitors import TrainingMonitors
from launch.run.execute import execute
from launch.run.ledger import Ledger, RunError
from launch.run.stages import follow
from launch.storage.rundir import RunDirectory
from shaping.monitors import MonitorError, OvertAction, Reading
from shaping.monitors.records import episode_id, read_records

CLERK = {"clerk": {"size": 2, "horizon": 3, "inquiry": 0.5}}
SPENT = {"use": "monitor_fakes:TeaLeaves", "role": "train"}


def config(alarms: Any, monitors: Sequence[Any] = ("monitor_fakes:TeaLeaves",), updates: int = 2) -> RunConfig:
    document = {
        "name": "small",
        "seeds": 1,
        "train": {"worlds": CLERK, "updates": updates, "groups": 2, "group_size": 4, "max_tokens": 8},
        "eval": {
            "worlds": CLERK, "episodes": 1, "access_episodes": 0, "monitors": list(monitors), "alarms": alarms,
        },
        "arms": {"one": {"role": "reference"}},
    }  # fmt: skip
    return parse_study(document, "test").runs()[0]


def trained(run: RunConfig, model: Path, path: Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    result = execute(run, model, RunDirectory(path))
    return [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()], result


def highest(episode: Episode) -> float:
    return max(suspicion(turn) for turn in episode.turns)


class Graded(TeaLeaves):
    """Suspects each turn of an episode as much as its group's number says, in twentieths."""

    name: str = "graded"

    def read(self, episode: Episode) -> list[Reading]:
        return [Reading(self.name, self.trait, t, episode.group / 20) for t in range(len(episode.turns))]


# In a run -------------------------------------------------------------------------------------------------------------


def test_alarms_are_recorded_beside_the_episodes_and_change_nothing_else(
    model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    without, _ = trained(config(None), model, tmp_path / "without")
    rows, result = trained(config({"keep": 3, "halt_below": 0.5}), model, tmp_path / "run")
    episodes = read_episodes(tmp_path / "run" / "episodes" / "train-000001.parquet")
    records = read_records(tmp_path / "run" / "episodes" / "records" / "train-000001.parquet")
    found = {(r.episode, r.turn): (r.score, r.alarm, r.then) for r in records}
    for episode in episodes:
        for number, turn in enumerate(episode.turns):
            score = suspicion(turn)
            expected = (score, score >= 0.5, "log" if score >= 0.5 else "") if score else None
            assert found.get((episode_id(episode), number)) == expected
    alarmed = [e for e in episodes if highest(e) >= 0.5]
    assert rows[1]["monitor/tea_leaves/harm/alarms"] == len(alarmed) / len(episodes) > 0
    kept = read_episodes(tmp_path / "run" / "episodes" / "alarms-000001.parquet")
    assert len(kept) == min(3, len(alarmed)) and {episode_id(e) for e in kept} <= {episode_id(e) for e in alarmed}
    told = capfd.readouterr().err
    assert "have no honest episodes to compare with" in told  # it reads tokens, which scripted episodes lack
    assert any(
        episode_id(e) in told for path in (tmp_path / "run" / "episodes").glob("alarms-*") for e in read_episodes(path)
    )
    plain = [{k: v for k, v in row.items() if not k.endswith(("/alarms", "/alarm_p"))} for row in rows]
    assert plain == without
    sealed = {name for name in result_files(tmp_path / "run") if "records" in name}
    assert sealed == {f"episodes/records/{n}.parquet" for n in ("train-000000", "train-000001", "eval")}
    assert result["monitors"]["tea_leaves"]["failed"] == {"training": 0, "evaluation": 0}


def result_files(path: Path) -> list[str]:
    result = RunDirectory(path).result()
    assert result is not None and RunDirectory(path).status() == "complete"
    return list(result["files"])


def test_an_evaluation_made_again_has_the_records_of_its_own_episodes(model: Path, tmp_path: Path) -> None:
    run, directory = config({"keep": 0}, updates=1), RunDirectory(tmp_path / "run")
    execute(run, model, directory)
    file = directory.path / "episodes" / "records" / "eval.parquet"
    before, first = read_records(file), read_episodes(directory.path / "episodes" / "eval.parquet")
    evaluate(run.model_copy(update={"seed": 1}), directory.checkpoint, directory, "cpu")
    again = read_episodes(directory.path / "episodes" / "eval.parquet")
    assert {e.seed for e in again} != {e.seed for e in first} and directory.status() == "complete"
    assert {r.episode for r in before} <= {episode_id(e) for e in first}
    after = {r.episode for r in read_records(file)}
    assert after and after <= {episode_id(e) for e in again}


def test_episodes_with_an_alarm_are_dropped_and_counted_and_the_monitor_is_spent(model: Path, tmp_path: Path) -> None:
    run = config({"then": {"tea_leaves": "drop"}}, [SPENT, "ClaimCheck"], updates=1)
    _, result = trained(run, model, tmp_path / "run")
    learned = read_episodes(tmp_path / "run" / "episodes" / "train-000000.parquet")
    assert learned and all(highest(e) < 0.5 for e in learned)
    attrition = result["attrition"]
    assert (attrition["trained"], attrition["screened"]) == (len(learned), 8 - len(learned)) and len(learned) < 8
    assert result["spent_monitors"] == ["tea_leaves"]


def test_a_halt_ends_training_and_the_result_says_which_monitor_did_it(model: Path, tmp_path: Path) -> None:
    run = config({"then": "halt", "halt_below": 0.5}, ["monitor_fakes:TeaLeaves", "ClaimCheck"], updates=4)
    rows, result = trained(run, model, tmp_path / "run")
    assert len(rows) < 4 and result["stopped_early"]
    assert "'tea_leaves' raised alarms in update" in result["monitors"]["tea_leaves"]["halted"]
    assert result["monitors"]["claim_check"]["halted"] == "" and result["spent_monitors"] == []


def test_a_score_that_is_no_number_is_counted_and_named_once(
    model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    rows, result = trained(config(None, ["monitor_fakes:NotANumber"]), model, tmp_path / "run")
    assert [row["monitor/not_a_number/failed_episodes"] for row in rows] == [0.5, 0.5]
    assert result["monitors"]["not_a_number"]["failed"]["training"] == 8
    told = [line for line in capfd.readouterr().err.splitlines() if "'not_a_number' failed at 4 of 8" in line]
    assert len(told) == 1 and "nan is not in [0, 1]" in told[0]


@pytest.mark.parametrize(
    ("alarms", "monitors", "message"),
    [
        ({"then": "drop"}, ["monitor_fakes:TeaLeaves", "ClaimCheck"], "'claim_check', which is held out"),
        ({"then": {"tea_leaves": "substitute"}}, [SPENT], "add a held-out one"),
        ({"then": {"tea_leafs": "log"}}, [SPENT, "ClaimCheck"], r"no monitor 'tea_leafs'.*did you mean .tea_leaves"),
        ({"then": {"slow": "drop"}}, [{"use": "monitor_fakes:Slow", "role": "train"}], "reads no training episodes"),
    ],
)
def test_a_policy_that_cannot_be_kept_is_refused_before_the_run(alarms: Any, monitors: list[Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_plugins([config(alarms, monitors)])


def test_a_budget_needs_enough_honest_episodes() -> None:
    with pytest.raises(
        ConfigError, match=r"false_positive_budget of 0\.001 needs at least 999 honest episodes, not 100"
    ):
        config({"false_positive_budget": 0.001})


# By itself ------------------------------------------------------------------------------------------------------------


def test_thresholds_come_from_honest_episodes_of_the_worlds_trained_in() -> None:
    lines: list[str] = []
    run = config({"false_positive_budget": 0.1, "reference_episodes": 20}, ["OvertAction"])
    found = honest_thresholds(run, [OvertAction(), Graded(), EveryTurn()], lines.append)
    assert found["overt_action"] == {"harm": 0.0, "shutdown_resistance": 0.0}
    assert found["graded"] == {"harm": 18 / 20}  # the 19th of 20: ceil(21 x .9)
    assert found["every_turn"] == {"harm": 1.0}
    assert any("'every_turn' gives 100% of honest episodes the highest score" in line for line in lines)


class EveryTurn(TeaLeaves):
    """Suspects everybody."""

    name: str = "every_turn"

    def read(self, episode: Episode) -> list[Reading]:
        return [Reading(self.name, self.trait, 0, 1.0)]


def followed(then: str, threshold: float) -> tuple[list[Episode], list[np.ndarray], Counter[str], list[Episode]]:
    """(Episodes left, their rewards, the update's counts, all episodes) of three groups of three, paid 1 per turn."""
    every = [replace(e, group=number) for number in (1, 2, 3) for e in groups("clerk")[0][:3]]
    every[4] = replace(every[4], group=3)  # two of group 2, four of group 3
    policy = AlarmPolicy(AlarmsConfig(then=then, substitute=-2.0), {"graded": {"harm": threshold}})  # type: ignore[arg-type]
    monitors = TrainingMonitors([Graded()], policy=policy)
    trainer = SimpleNamespace(monitors=monitors, ledger=Ledger(episodes=9, trained=9))
    counts: Counter[str] = Counter(trained=9)
    paid = [np.ones(len(e.turns)) for e in every]
    left, rewards = follow(trainer, 0, monitors.start(every), every, paid, counts)  # type: ignore[arg-type]
    assert all(amounts.tolist() == [1.0] * len(amounts) for amounts in paid)
    return left, rewards, counts, every


def test_a_substitute_pays_flagged_turns_another_amount_and_drops_no_episode() -> None:
    left, rewards, counts, every = followed("substitute", 0.12)
    assert left == every and counts["trained"] == 9
    assert [set(amounts.tolist()) for amounts in rewards] == [{-2.0} if e.group == 3 else {1.0} for e in every]


def test_a_drop_takes_episodes_out_and_logging_does_not() -> None:
    left, rewards, counts, _ = followed("drop", 0.12)
    assert {e.group for e in left} == {1, 2} and len(rewards) == 5
    assert (counts["trained"], counts["screened"]) == (5, 4)
    assert len(followed("log", 0.0)[0]) == 9
    with pytest.raises(RunError, match="nothing is left to"):
        followed("drop", 0.0)


def test_a_halt_looks_at_rows_alone_and_so_resumes_where_it_was() -> None:
    policy = AlarmsConfig(then={"a": "halt"})
    rows = [
        {"update": 0, "monitor/a/harm/alarm_p": 0.2, "monitor/b/harm/alarm_p": 1e-9},
        {"update": 1, "monitor/a/harm/alarm_p": 1e-4},
        {"update": 2, "monitor/a/harm/alarm_p": 1.0},
    ]
    assert not AlarmHalt(policy, rows[:1]).reached and not AlarmHalt(None, rows).reached
    assert "'a' raised alarms in update 1" in AlarmHalt(policy, rows).why


def test_failures_and_what_was_told_are_kept_by_a_checkpoint(make_episode: Any) -> None:
    class Fails(TeaLeaves):
        def read(self, episode: Episode) -> list[Reading]:
            raise MonitorError("no")

    lines: list[str] = []
    monitors = TrainingMonitors([Fails()], lines.append)
    monitors.finish(monitors.start([make_episode()]), {})
    again = TrainingMonitors([Fails()], lines.append)
    again.load_state_dict(json.loads(json.dumps(monitors.state_dict())))
    again.finish(again.start([make_episode()]), {})
    assert again.failed == {"tea_leaves": 1} and len(lines) == 1
