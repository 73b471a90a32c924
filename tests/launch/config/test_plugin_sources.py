"""The code of plug-ins is found without running it, wherever the config names one."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

from launch.config.loading import parse_study
from launch.config.plugin_sources import changed_code, plugin_code
from launch.config.study import RunConfig


def run(**arm: object) -> RunConfig:
    worlds = {"their_package.worlds:Maze": {}, "clerk@ar-1850": {}}
    document = {
        "name": "small",
        "train": {"worlds": worlds, "updates": 1, "groups": 1, "group_size": 2},
        "eval": {"worlds": {"steward": {}}, "monitors": ["OvertAction", "their_monitor:Reads"]},
        "arms": {"one": {"role": "reference", **arm}},
    }
    return parse_study(document, "test").runs()[0]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Plug-ins that must not be imported."""
    (tmp_path / "their_package").mkdir()
    for name in ("their_package/__init__.py", "their_package/worlds.py", "their_monitor.py", "nested.py"):
        (tmp_path / name).write_text("raise SystemExit('imported')\n")
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_plug_ins_are_found_at_any_depth_and_none_is_imported(folder: Path) -> None:
    code = plugin_code(run(interventions=[{"use": "MonitorPenalty", "monitor": {"use": "nested:Inner"}}]))
    files = {use: list(found["files"]) for use, found in code.items()}
    assert files == {
        "nested:Inner": ["nested.py"],
        "their_monitor:Reads": ["their_monitor.py"],
        "their_package.worlds:Maze": ["their_package/worlds.py"],
    }
    assert not {"nested", "their_monitor", "their_package"} & set(sys.modules)


def test_a_change_is_told_with_plug_in_and_file(folder: Path) -> None:
    before = plugin_code(run())
    assert changed_code(before, plugin_code(run())) == []
    (folder / "their_package" / "worlds.py").write_text("pass\n")
    told = changed_code(before, plugin_code(run()))
    assert told == ["plug-in their_package.worlds:Maze: their_package/worlds.py differs"]


def test_files_of_base_classes_count_once_they_are_imported(folder: Path) -> None:
    (folder / "their_base.py").write_text("class Base: ...\n")
    (folder / "their_reward.py").write_text("from their_base import Base\nclass Paid(Base): ...\n")
    try:
        importlib.import_module("their_reward")
        code = plugin_code(run(reward="their_reward:Paid"))
        assert sorted(code["their_reward:Paid"]["files"]) == ["their_base.py", "their_reward.py"]
        (folder / "their_base.py").write_text("class Base: changed = True\n")
        told = changed_code(code, plugin_code(run(reward="their_reward:Paid")))
        assert told == ["plug-in their_reward:Paid: their_base.py differs"]
    finally:
        for name in ("their_reward", "their_base"):
            sys.modules.pop(name, None)


def test_a_run_may_be_isolated_or_not_between_two_starts(folder: Path) -> None:
    """Only a process that has imported a plug-in knows its base classes."""
    own = {"their_reward.py": "one"}
    known, unknown = {"x": {"files": {**own, "their_base.py": "two"}}}, {"x": {"files": own}}
    assert changed_code(known, unknown) == changed_code(unknown, known) == []
    moved = {"x": {"files": {"their_reward/__init__.py": "one"}}}
    assert changed_code(unknown, moved) == [
        "plug-in x: their_reward.py differs",
        "plug-in x: their_reward/__init__.py differs",
    ]


def test_of_an_installed_package_the_version_counts_too(folder: Path) -> None:
    code = plugin_code(run(reward="rich.console:Console"))["rich.console:Console"]
    assert code["package"].startswith("rich==") and list(code["files"]) == ["rich/console.py"]
    newer = {**code, "package": "rich==999"}
    assert changed_code({"x": code}, {"x": newer}) == [f"plug-in x: {code['package']} -> rich==999"]
