"""The cells of an evaluation: every cue that a world declares, and no other; worlds step as they do in training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ray_worlds import Busy

from launch.config.loading import parse_study
from launch.config.study import RunConfig
from launch.run.evaluation.conditions import eval_cells
from launch.run.evaluation.evaluate import deployment
from shaping.learning.policy import Policy
from shaping.sampling.text.render import Renderer


def config(worlds: Any, **rollout: Any) -> RunConfig:
    document = {
        "name": "small",
        "seeds": 1,
        "train": {"worlds": {"steward": {"size": 1}}, "updates": 1, "groups": 1, "group_size": 2, "max_tokens": 4},
        "eval": {"worlds": worlds, "cells": ["own"], "episodes": 2, "access_episodes": 0},
        "rollout": rollout,
        "arms": {"arm": {"role": "reference"}},
    }
    return parse_study(document, "test").runs()[0]


def test_a_world_is_given_the_cues_that_it_declares() -> None:
    run = config({"steward": {"size": 2}, "hostile_worlds:Plain": {}, "hostile_worlds:Cued": {}})
    cells = [(cell.world.partition(":")[2], dict(cell.options), cell.watch, cell.placebo) for cell in eval_cells(run)]
    assert len(cells) == 4 + 1 + 2
    assert cells[4] == ("Plain", {}, "", "")
    assert cells[5:] == [("Cued", {"watch": w}, w, "") for w in ("always", "never")]


def test_worlds_step_in_the_evaluation_in_as_many_threads_as_in_training(model: Path) -> None:
    policy = Policy.load(model)
    policy.model.eval()
    for threads, least, most in ((None, 1, 1), (3, 2, 3)):
        Busy.most = 0
        run = config({"ray_worlds:Busy": {}}, **({} if threads is None else {"env_threads": threads}))
        found = deployment(run, policy, Renderer(policy.tokenizer))
        assert {e.status.value for episodes in found.values() for e in episodes} == {"completed"}
        assert least <= Busy.most <= most
