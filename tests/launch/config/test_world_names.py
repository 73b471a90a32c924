"""Worlds go by the names that their classes and options give them, wherever it counts which were trained in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from launch_fakes import study
from synthetic_study import config, write_study

from launch.config.world_names import check_names, trained_worlds, world_names
from launch.errors import ConfigError
from launch.report.files.load import load

WORLDS = """
from envs.worlds.clerk import Clerk

class Office(Clerk):
    name = "office"

class Unnamed(Clerk):
    pass
"""


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "named_worlds.py").write_text(WORLDS)
    monkeypatch.chdir(tmp_path)


def run_of(output: Path, train: dict[str, Any], evaluation: dict[str, Any]) -> Any:
    changes = {
        "train": {"worlds": train, "updates": 1, "groups": 1, "group_size": 2},
        "eval": {"worlds": evaluation, "episodes": 1},
    }
    return study(output, {"arm": ""}, **changes).runs()[0]


def test_a_plugin_goes_by_its_own_name_and_a_locale_is_part_of_it() -> None:
    worlds: dict[str, dict[str, Any]] = {"named_worlds:Office": {"size": 3}, "steward": {}, "clerk@ar-1850": {}}
    assert world_names(worlds, "train.worlds") == {
        "named_worlds:Office": "office", "steward": "steward", "clerk@ar-1850": "clerk@ar-1850",
    }  # fmt: skip


def test_a_plugin_that_is_trained_in_and_evaluated_is_not_held_out(tmp_path: Path) -> None:
    run = run_of(tmp_path, {"named_worlds:Office": {}}, {"named_worlds:Office": {}, "clerk": {}})
    assert trained_worlds(run) == ["office"]
    own = {"train.worlds": {"named_worlds:Office": {}}, "eval.worlds": {"clerk": {}, "steward": {}}}
    asked = config(seeds=1, **{part: {**SECTIONS[part], "worlds": own[f"{part}.worlds"]} for part in SECTIONS})
    recorded = write_study(
        tmp_path / "study", asked, episodes=False, updates=12, result={"trained_worlds": ["steward"]}
    )
    found = load(recorded)
    assert found.trained_worlds == ("steward",)
    assert "steward" in found.worlds and "steward" not in found.held_out_worlds
    assert "clerk" in found.held_out_worlds


SECTIONS = {part: getattr(config(), part).model_dump() for part in ("train", "eval")}


def test_two_worlds_of_one_name_are_not_mixed_in_one_evaluation(tmp_path: Path) -> None:
    check_names(run_of(tmp_path, {"clerk": {}}, {"clerk": {}, "clerk@ar-1850": {}, "named_worlds:Office": {}}))
    with pytest.raises(ConfigError, match="'clerk' and 'named_worlds:Unnamed' both call themselves 'clerk'"):
        check_names(run_of(tmp_path, {"clerk": {}}, {"clerk": {}, "named_worlds:Unnamed": {}}))
