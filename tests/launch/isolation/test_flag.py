"""`--isolated` is a key of the config, for the processes of a run and no part of what a run is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from launch.cli import app
from launch.config.loading import parse_study
from launch.isolation.host import IsolationError, told
from launch.storage.versions import differences


def document(*interventions: str) -> dict[str, Any]:
    worlds = {"clerk": {"size": 2}}
    return {
        "name": "flag",
        "seeds": 1,
        "train": {"worlds": worlds, "updates": 1, "groups": 1, "group_size": 2, "step_timeout": 7, "reward_timeout": 8},
        "rollout": {"stage_timeout": 9},
        "eval": {"worlds": worlds, "episodes": 1, "access_episodes": 0},
        "arms": {"one": {"role": "reference", "interventions": list(interventions)}},
    }


@pytest.mark.parametrize("verb", [["study", "--dry-run"], ["train", "--arm", "one"]])
def test_the_flag_builds_plugins_apart_before_anything_starts(verb: list[str], tmp_path: Path) -> None:
    file = tmp_path / "flag.yaml"
    file.write_text(yaml.safe_dump(document("third_party:NeedsPolicy") | {"output": str(tmp_path)}))
    done = CliRunner().invoke(app, [verb[0], str(file), *verb[1:], "--isolated"])
    assert isinstance(done.exception, IsolationError), done.output
    assert "NeedsPolicy overrides auxiliary_loss()" in str(done.exception)


def test_a_run_has_its_limits_and_what_is_hidden_from_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    isolation = parse_study(document() | {"isolated": True}, "test").runs()[0].isolation
    assert isolation is not None
    assert isolation.hidden == str(tmp_path / "runs")
    assert [isolation.seconds(hook) for hook in ("allow", "score_group", "credit")] == [7, 8, 9]


def test_a_run_is_the_same_run_with_and_without() -> None:
    apart, inside = (parse_study(document() | {"isolated": flag}, "test") for flag in (True, False))
    assert apart.runs()[0].digest == inside.runs()[0].digest
    assert "isolation" not in apart.runs()[0].model_dump()
    assert differences(apart.model_dump(mode="json"), inside.model_dump(mode="json")) == []


def test_walls_that_are_missing_are_told() -> None:
    assert told({"files": "Landlock 7", "sockets": "seccomp"}) == "blocked: files by Landlock 7, sockets by seccomp"
    assert told({}) == "blocked: nothing but the process itself; NOT blocked on this machine: files and sockets"
