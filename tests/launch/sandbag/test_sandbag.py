"""`shaping sandbag`: a finished run is evaluated under noise, and stays as it is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from launch.cli import app
from launch.config.loading import parse_study
from launch.errors import UserError
from launch.run.execute import execute
from launch.sandbag.command import find_sandbagging
from launch.storage.rundir import RunDirectory

CLERK = {"clerk": {"size": 2, "horizon": 3}}


@pytest.fixture(scope="module")
def finished(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    document = {
        "name": "small",
        "seeds": 1,
        "train": {"worlds": CLERK, "updates": 0, "groups": 1, "group_size": 2, "max_tokens": 6},
        "eval": {"worlds": CLERK, "episodes": 5, "access_episodes": 0, "watch": ["always"], "placebo": ["none"]},
        "arms": {"plain": {"role": "reference"}},
    }
    path = tmp_path_factory.mktemp("run") / "run"
    execute(parse_study(document, "test").runs()[0], model, RunDirectory(path))
    return path


def test_the_score_is_told_by_scale_and_the_run_is_left_alone(finished: Path, tmp_path: Path) -> None:
    before = {p: p.read_bytes() for p in finished.rglob("*") if p.is_file()}
    words = ["sandbag", str(finished), "--scales", "0.5,0.001", "--draws", "5", "--metric", "proxy_reward"]
    done = CliRunner().invoke(app, [*words, "--device", "cpu", "--json", str(tmp_path / "s.json")])
    assert done.exit_code == 0, done.output
    found = json.loads((tmp_path / "s.json").read_text())
    assert [gain["scale"] for gain in found["gains"]] == [0.001, 0.5] and found["draws"] == 5
    assert "over 5 situations" in done.output and f"verdict: {found['verdict']}" in done.output
    assert {p: p.read_bytes() for p in finished.rglob("*") if p.is_file()} == before
    summary = json.loads((finished / "result.json").read_text())["summary"]
    assert found["score"] == pytest.approx(summary["proxy_reward"]), "without noise it is the run's own evaluation"


def test_against_itself_no_policy_gains_anything(finished: Path) -> None:
    found = find_sandbagging(finished, like=finished, scales=(1.0,), draws=5, device="cpu", metric="proxy_reward")
    assert found.gains[0].gain == 0.0 and found.word != "sandbagging"


def test_bad_arguments_are_told(finished: Path) -> None:
    for changed, why in (
        ({"scales": (0.1, 0.1)}, "--scales are different numbers"),
        ({"scales": (0.0,)}, "--scales are different numbers"),
        ({"draws": 4}, "--draws is 4: a verdict needs at least 5"),
        ({"metric": "deception"}, "choose one of true_reward, proxy_reward"),
    ):
        with pytest.raises(UserError, match=why):
            find_sandbagging(finished, **changed)
