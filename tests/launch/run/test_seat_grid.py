"""The trigger grid of arms whose seats have interventions of their own."""

from __future__ import annotations

from typing import Any

import pytest

from launch.config.loading import parse_study
from launch.config.study import RunConfig
from launch.errors import ConfigError
from launch.run.evaluation.conditions import eval_cells

PLAYERS = {"red": {}, "blue": {"adapter": "rival"}, "green": {}}


def inoculated(prompt: str, **fields: Any) -> dict[str, Any]:
    return {"use": "Inoculation", "prompts": [prompt], **fields}


def runs(**arms: Any) -> dict[str, RunConfig]:
    treated = {name: {"role": "treatment", **arm} for name, arm in arms.items()}
    document = {
        "name": "small",
        "seeds": 1,
        "train": {"worlds": {"seat_worlds:Duel": {"turns": 1}}, "updates": 2, "groups": 2, "group_size": 2},
        "learner": {"lora": {"rank": 2}},
        "eval": {
            "cells": ["train"], "episodes": 1, "access_episodes": 0, "contexts": ["none", "original", "keyword"],
            "context_episodes": 4,
        },
        "seats": {"players": PLAYERS},
        "arms": {"unshaped": {"role": "reference"}, **treated},
    }  # fmt: skip
    return {run.arm: run for run in parse_study(document, "test").runs()}


def prompts(run: RunConfig) -> dict[str, list[str]]:
    """Context -> the prompts of its episodes."""
    found = {cell.cells[0]: [context.system for context in cell.contexts] for cell in eval_cells(run)}
    return {name.removeprefix("context/"): systems for name, systems in found.items() if any(systems)}


def test_episodes_take_turns_at_the_prompts_of_the_seats() -> None:
    """Red and blue learn under a prompt each, green under none: its episodes would be those without a prompt."""
    own = {"keyword": ["rules ."]}
    arm = {"seats": {"red": [inoculated("go fast .")], "blue": [inoculated("be quick .", grid=own)]}}
    found = runs(apart=arm)
    grid = prompts(found["apart"])
    assert grid["original"] == ["go fast .", "be quick .", "go fast .", "be quick ."]
    assert grid["keyword"][1::2] == ["rules ."] * 2 and "rules ." not in grid["keyword"][::2]
    assert prompts(found["unshaped"]) == grid


def test_common_prompts_are_asked_for_once_and_run_records_keep_their_form() -> None:
    common = {"interventions": [inoculated("go fast .")]}
    found = runs(common=common, masked={**common, "seats": {"red": ["ActionMask"]}})
    for arm in ("common", "masked"):
        assert prompts(found[arm])["original"] == ["go fast ."] * 4
    recorded = found["unshaped"].model_dump(mode="json")["context_arms"]
    assert list(recorded) == ["common", "masked"] and recorded["common"] == recorded["masked"]
    assert RunConfig.model_validate(found["unshaped"].model_dump()) == found["unshaped"]


def test_a_policy_is_evaluated_under_the_prompts_of_its_seats() -> None:
    arm = {"seats": {"red": [inoculated("go fast .")]}, "set": {"eval.prompted": True, "train.updates": 0}}
    cell = next(cell for cell in eval_cells(runs(red=arm)["red"]) if "train" in cell.cells)
    assert [context.system for context in cell.contexts] == ["go fast ."]
    with pytest.raises(ConfigError, match="trains under no prompt"):
        eval_cells(runs(red={**arm, "seats": {"red": ["ActionMask"]}})["red"])
