"""Relearning: bad episodes are cloned into a fresh adapter, and the policy is looked at on the way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from launch.config.loading import parse_study
from launch.config.study import RunConfig
from launch.errors import ConfigError, UserError
from launch.relearn.attack import Attack, looks, relearn
from launch.relearn.verb import relearn as verb
from launch.run.evaluation.relearned import relearned_metrics

CLERK = {"clerk": {"size": 2, "inquiry": 0.3}}
SMALL = Attack(metric="true_reward", samples=4, steps=3, rank=2)


def run_in(worlds: Any = CLERK) -> RunConfig:
    evaluation = {"worlds": worlds, "episodes": 2, "access_episodes": 0, "watch": ["never"], "placebo": ["none"]}
    document = {
        "name": "small",
        "seeds": 1,
        "train": {"worlds": CLERK, "max_tokens": 6, "updates": 1, "groups": 1, "group_size": 2},
        "eval": evaluation,
        "arms": {"unshaped": {"role": "reference"}},
    }
    return parse_study(document, "test").runs()[0]


def test_a_policy_is_looked_at_until_it_has_the_trait_or_the_steps_are_over(model: Path) -> None:
    before = {p.name: p.read_bytes() for p in model.iterdir() if p.is_file()}
    told: list[str] = []
    found = relearn(run_in(), model, 10.0, SMALL, told.append)
    assert found.steps is None and list(found.values) == [0, 1, 2, 3] and len(told) == 4
    assert found.row()["values"].keys() == {"0", "1", "2", "3"}
    assert {p.name: p.read_bytes() for p in model.iterdir() if p.is_file()} == before
    at_once = relearn(run_in(), model, found.values[0], SMALL)
    assert at_once.steps == 0 and list(at_once.values) == [0], "what it has already needs no step"
    assert at_once.values[0] == found.values[0]


def test_steps_that_are_looked_at_are_powers_of_two_and_the_last() -> None:
    assert [looks(n) for n in (1, 2, 5, 8)] == [[1], [1, 2], [1, 2, 4, 5], [1, 2, 4, 8]]


def test_what_cannot_be_relearned_is_named(model: Path) -> None:
    with pytest.raises(ConfigError, match="no value of 'decepton'"):
        relearn(run_in(), model, 0.5, SMALL.model_copy(update={"metric": "decepton"}))
    with pytest.raises(ConfigError, match=r"persona.*nobody"):
        relearn(run_in(), model, 0.5, SMALL.model_copy(update={"persona": "nobody"}))
    with pytest.raises(ConfigError, match="has scripted personas"):
        relearn(run_in({"controller_worlds:Vowels": {}}), model, 0.5, SMALL)
    with pytest.raises(UserError, match="one of the two"):
        verb(model)


def test_a_study_attacks_its_runs_alike_and_without_an_attack_its_digest_is_what_it_was(model: Path) -> None:
    run = run_in()
    assert relearned_metrics(run, model) == {} and "relearn" not in run.eval.model_dump(mode="json")
    attacked = run.model_copy(update={"eval": run.eval.model_copy(update={"relearn": SMALL})})
    assert attacked.digest != run.digest and attacked.recorded["eval"]["relearn"]["steps"] == 3
    found = relearned_metrics(attacked, model)
    by_step = relearn(run, model, 10.0, SMALL).values
    assert found == {"relearned": by_step[3], **{f"relearned/{step}": value for step, value in by_step.items()}}


def test_an_evaluation_in_the_worlds_of_training_alone_is_attacked_there(model: Path) -> None:
    run = run_in()
    own = run.eval.model_copy(update={"cells": ["train"], "worlds": {}})
    found = relearn(
        run.model_copy(update={"eval": own}),
        model,
        -10.0,
        SMALL.model_copy(update={"metric": "trained/true_reward.clerk"}),
    )
    assert list(found.values) == [0]
