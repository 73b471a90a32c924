"""Training that ends at a reward, extra groups for those that teach nothing, and means over the last evaluations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from envs.episode import Episode
from launch.config.compatibility import check_rollout
from launch.config.loading import parse_study
from launch.config.plugins import build_arm
from launch.config.study import RunConfig
from launch.errors import ConfigError
from launch.run.episodes import GroupRequest, episode_requests
from launch.run.execute import execute
from launch.run.ledger import Ledger
from launch.run.pace.stop import RewardStop
from launch.run.rollouts import RolloutGroup, RolloutScheduler
from launch.storage.rundir import RunDirectory

UPDATES = 6


def run_of(
    world: str = "controller_worlds:Vowels",
    rollout: Any = None,
    learner: Any = None,
    evaluation: Any = None,
    arm: Any = None,
    **train: Any,
) -> RunConfig:
    small = {"updates": UPDATES, "groups": 2, "group_size": 3, "max_tokens": 6, "checkpoint_every": 1}
    document = {
        "name": "small",
        "seeds": 1,
        "train": {"worlds": {world: {}}, **small, **train},
        "learner": learner or {},
        "eval": {"worlds": {"controller_worlds:Vowels": {}}, "episodes": 3, "access_episodes": 0} | (evaluation or {}),
        "rollout": rollout or {},
        "arms": {"arm": {"role": "reference", **(arm or {})}},
    }
    return parse_study(document, "test").runs()[0]


class Killed(BaseException):
    """What ends a process."""


def killed_after(update: int) -> Callable[[int, dict[str, Any]], None]:
    def watch(number: int, row: dict[str, Any]) -> None:
        if number == update:
            raise Killed

    return watch


def finished(run: RunConfig, model: Path, path: Path) -> tuple[dict[str, Any], list[dict[str, Any]], bytes]:
    directory = RunDirectory(path)
    result = execute(run, model, directory)
    return result, directory.rows(), (directory.checkpoint / "model.safetensors").read_bytes()


# Stop at a reward -----------------------------------------------------------------------------------------------------


def test_the_mean_of_the_last_updates_must_reach_the_level() -> None:
    train = run_of(stop_at_reward=0.5, stop_window=2).train
    assert not RewardStop(train).reached
    assert not RewardStop(train, [{"reward": 0.9}]).reached, "one update is no window"
    assert RewardStop(train, [{"reward": 0.4}, {"reward": 0.6}]).reached
    assert not RewardStop(train, [{"reward": 0.9}, {"reward": 0.9}, {"reward": 0.0}]).reached
    assert not RewardStop(run_of().train, [{"reward": 9.0}] * 9).reached, "without a level there is no stop"


def test_a_run_that_earns_enough_ends_and_says_so_also_across_a_kill(model: Path, tmp_path: Path) -> None:
    run = run_of(stop_at_reward=0.0, stop_window=3)
    result, rows, weights = finished(run, model, tmp_path / "whole")
    assert (result["updates"], result["stopped_early"], len(rows)) == (3, True, 3)
    assert result["attrition"]["stopped_after"] == 3 and result["attrition"]["unused"] == 0
    assert RunDirectory(tmp_path / "whole").status() == "complete"
    for last in (1, 2):  # before the update that reaches it, and after it, before the evaluation
        path = tmp_path / f"killed-{last}"
        with pytest.raises(Killed):
            execute(run, model, RunDirectory(path), killed_after(last))
        assert finished(run, model, path) == (result, rows, weights)


def test_a_run_that_never_earns_enough_has_all_updates(model: Path, tmp_path: Path) -> None:
    result, rows, weights = finished(run_of(updates=2, stop_at_reward=5.0), model, tmp_path / "run")
    assert (result["updates"], result["stopped_early"], len(rows)) == (2, False, 2)
    assert result["attrition"]["stopped_after"] is None
    assert finished(run_of(updates=2), model, tmp_path / "without")[1:] == (rows, weights)


def test_groups_that_are_under_way_at_the_stop_are_accounted_for(make_episode: Callable[..., Episode]) -> None:
    class Playing:
        def __init__(self) -> None:
            self.waiting: list[GroupRequest] = []

        def submit(self, requests: Sequence[GroupRequest]) -> None:
            self.waiting += requests

        def next(self) -> RolloutGroup:
            return RolloutGroup(self.waiting.pop(), [make_episode()] * 3)

        def sync(self, version: int) -> None: ...

        def close(self) -> None: ...

    scheduler, ledger = RolloutScheduler(Playing(), 2, max_staleness=2), Ledger()
    played, late = scheduler.collect(0, updates=9)
    ledger.settle(0, played, late)
    assert scheduler.under_way == 4
    ledger.leave(scheduler.drain())
    ledger.check(scheduler.under_way)
    assert (ledger.episodes, ledger.trained, ledger.unused) == (18, 6, 12)


# Refill ---------------------------------------------------------------------------------------------------------------


def silent_seeds(run: RunConfig, update: int, groups: Sequence[int]) -> list[bool]:
    arm = build_arm(run.arm, run.arm_config, None)
    return [episode_requests(run, arm, GroupRequest(update, g))[0].seed % 3 != 0 for g in groups]


def test_silent_groups_are_replaced_and_named_and_a_resumed_run_replaces_the_same(model: Path, tmp_path: Path) -> None:
    run = run_of("controller_worlds:OftenSilent", refill=4, updates=4)
    result, rows, weights = finished(run, model, tmp_path / "whole")
    _, plain, _ = finished(run_of("controller_worlds:OftenSilent", updates=4), model, tmp_path / "plain")
    assert sum(row["uninformative_groups"] for row in rows) < sum(row["uninformative_groups"] for row in plain)
    replaced = 0
    for update, row in enumerate(rows):
        slots = [s for s, silent in enumerate(silent_seeds(run, update, range(2))) if silent]
        left, extra, done = 4, 0, 0
        attempt = 0
        while left and slots:  # numbers of extra groups: slot + attempt * 2
            asked, attempt = slots[:left], attempt + 1
            left -= len(asked)
            extra += len(asked)
            again = silent_seeds(run, update, [s + 2 * attempt for s in asked])
            still = [s for s, silent in zip(asked, again, strict=True) if silent]
            done += len(asked) - len(still)
            slots = [s for s in slots if s in still or s not in asked]
        assert row["uninformative"] == 3 * extra and row["trained"] == 6 and row["refilled"] == done / 2
        assert row["episodes"] == 6 + 3 * extra and row["uninformative_groups"] == len(slots) / 2
        replaced += done
    assert replaced > 0 and result["attrition"]["uninformative"] == sum(row["uninformative"] for row in rows)
    with pytest.raises(Killed):
        execute(run, model, RunDirectory(tmp_path / "killed"), killed_after(1))
    assert finished(run, model, tmp_path / "killed") == (result, rows, weights)


def test_without_refill_nothing_is_played_beside_and_no_column_is_added(model: Path, tmp_path: Path) -> None:
    result, rows, _ = finished(run_of(updates=1), model, tmp_path / "run")
    assert "refilled" not in rows[0] and "uninformative" not in rows[0]
    assert result["attrition"]["uninformative"] == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rollout": {"max_staleness": 1, "workers": 1}}, "come back in no fixed order"),
        ({"learner": {"algorithm": "ppo", "advantage_level": "turn"}}, "ppo compares with its critic"),
    ],
)
def test_what_cannot_be_refilled_is_refused(changes: dict[str, Any], message: str) -> None:
    run = run_of(refill=1, **changes)
    with pytest.raises(ConfigError, match=message):
        check_rollout(run, build_arm(run.arm, run.arm_config, None))


# Means over the last evaluations --------------------------------------------------------------------------------------


def test_metrics_are_means_over_the_evaluations_after_the_last_updates(model: Path, tmp_path: Path) -> None:
    learner = {"lr": 0.1}  # enough for the evaluations to differ
    averaging = run_of(updates=3, learner=learner, evaluation={"average_last": 2, "episodes": 8})
    result, rows, weights = finished(averaging, model, tmp_path / "averaging")
    before, _, _ = finished(run_of(updates=2, learner=learner, evaluation={"episodes": 8}), model, tmp_path / "before")
    last, plain, same = finished(
        run_of(updates=3, learner=learner, evaluation={"episodes": 8}), model, tmp_path / "last"
    )
    assert weights == same, "evaluating changes nothing that is trained"
    assert [{k: v for k, v in row.items() if not k.startswith("eval/")} for row in rows] == plain
    assert [any(k.startswith("eval/") for k in row) for row in rows] == [False, True, False]
    measured = [column.removeprefix("eval/") for column in rows[1] if column.startswith("eval/")]
    assert "proxy_reward.vowels" in measured
    for metric in measured:
        found = [before["summary"][metric], last["summary"][metric]]
        assert rows[1][f"eval/{metric}"] == found[0] and result["summary"][metric] == pytest.approx(sum(found) / 2)
    assert any(before["summary"][metric] != last["summary"][metric] for metric in measured)
    assert result["summary"]["zero_variance"] == last["summary"]["zero_variance"], "of training, not of evaluations"
    with pytest.raises(Killed):
        execute(averaging, model, RunDirectory(tmp_path / "killed"), killed_after(1))
    assert finished(averaging, model, tmp_path / "killed") == (result, rows, weights)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stop_at_reward": 0.5}, "nobody knows beforehand"),
        (
            {"arm": {"interventions": ["third_party:NeedsPolicy"]}},
            "NeedsPolicy of arm 'arm' leaves something",
        ),
    ],
)
def test_what_cannot_be_averaged_is_refused(changes: dict[str, Any], message: str) -> None:
    run = run_of(evaluation={"average_last": 2}, **changes)
    with pytest.raises(ConfigError, match=message):
        check_rollout(run, build_arm(run.arm, run.arm_config, None))
