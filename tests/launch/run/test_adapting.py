"""State that changes after every update, and episodes that are screened out, in the loop."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from envs.store import read_episodes
from launch.config.loading import parse_study
from launch.config.study import RunConfig
from launch.run.execute import execute
from launch.storage.rundir import RunDirectory


def config(interventions: list[Any], **train: Any) -> RunConfig:
    worlds: dict[str, Any] = {"controller_worlds:Vowels": {}}
    small = {"worlds": worlds, "updates": 3, "groups": 2, "group_size": 4, "max_tokens": 8, "save_episodes_every": 1}
    document = {
        "name": "small",
        "seeds": 1,
        "train": {**small, "checkpoint_every": 1, **train},
        "eval": {"worlds": worlds, "episodes": 1, "access_episodes": 0, "watch": ["always"], "placebo": ["on"]},
        "arms": {"one": {"role": "reference", "interventions": interventions}},
    }
    return parse_study(document, "test").runs()[0]


class Killed(BaseException):
    """What ends a process."""


def killed_after(update: int) -> Callable[[int, dict[str, Any]], None]:
    def watch(number: int, row: dict[str, Any]) -> None:
        if number == update:
            raise Killed

    return watch


def test_state_adapts_once_per_update_reaches_sampler_and_learner_and_outlives_a_kill(
    model: Path, tmp_path: Path
) -> None:
    limited = {"use": "Lagrangian", "labels": {"source": "oracle", "traits": ["reward_hack"]}, "limit": 0.0}
    filtered = {"use": "CommandFilter", "patterns": ["^x"]}
    run = config(["adapting_plugins:Adapting", {**limited, "learning_rate": 2.0}, filtered], group_size=3)
    whole, broken = RunDirectory(tmp_path / "a"), RunDirectory(tmp_path / "b")
    assert execute(run, model, whole)["oracle"]
    with pytest.raises(Killed):
        execute(run, model, broken, killed_after(1))
    execute(run, model, broken)
    rows = whole.rows()
    assert rows == broken.rows()
    names = ("checkpoint/model.safetensors", "episodes/train-000002.parquet", "episodes/eval.parquet")
    assert all((whole.path / name).read_bytes() == (broken.path / name).read_bytes() for name in names)
    # readings are of the state that made the credit
    assert [row["readings/adapting/told"] for row in rows] == [0.0, 3.0, 6.0]
    # the sampler saw the state of update 2, and the learner the same edits
    last = list(read_episodes(whole.path / "episodes" / "train-000002.parquet"))
    assert {e.contexts.sampling.name for e in last} == {"told 2"}
    assert all(row["mismatch_kl"] < 1e-6 for row in rows)
    # a multiplier rises with its costs; a reward hack is an act that pays a third of the full reward here
    lambdas = [row["readings/lagrangian/lambda"] for row in rows]
    assert lambdas[0] == pytest.approx(0.1) and lambdas == sorted(lambdas) and lambdas[2] > 0.1
    for row in rows:
        assert row["readings/lagrangian/cost"] == pytest.approx(3 * row["reward"])
        assert row["readings/command_filter/drawn"] >= row["readings/command_filter/rejected"]


def test_screened_episodes_teach_nothing_and_are_counted_by_name(model: Path, tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path / "run")
    result = execute(config([{"use": "adapting_plugins:ScreensPaid", "limit": 0.0}], updates=2), model, directory)
    rows = directory.rows()
    for number, row in enumerate(rows):
        played = list(read_episodes(directory.path / "episodes" / f"train-{number:06d}.parquet"))
        out = sum(e.proxy_return > 0 for e in played)
        assert row["screened"] == out and row["trained"] == 8 - out and row["episodes"] == 8
        assert row["loss_tokens"] == sum(int(e.loss_mask.sum()) for e in played if e.proxy_return <= 0)
    assert sum(row["screened"] for row in rows) == result["attrition"]["screened"] > 0


def test_an_update_of_which_nothing_stays_goes_by(model: Path, tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path / "run")
    run = config([{"use": "adapting_plugins:ScreensPaid", "limit": -1.0}], updates=2, refill=1)
    result = execute(run, model, directory)
    assert [row["trained"] for row in directory.rows()] == [0, 0] and result["attrition"]["trained"] == 0
    # of the extra groups that were asked for in place of silent ones, nothing stays either
    assert result["attrition"]["uninformative"] == 8 and result["attrition"]["screened"] == 16
