"""The verbs `probe` and `belief` on a finished run: they read what it has kept, and change nothing of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from launch.cli import app
from launch.config.loading import parse_study
from launch.errors import ConfigError, UserError
from launch.monitoring.belief import ask_run
from launch.monitoring.probe import ProbeData, fit_probe, summary_of
from launch.run.execute import execute
from launch.storage.rundir import RunDirectory
from shaping.directions.probe_set import ProbeSet
from shaping.monitors.beliefs.record import read_beliefs


def finished(model: Path, folder: Path, inquiry: float = 0.4, **learner: Any) -> Path:
    worlds = {"clerk": {"size": 2, "inquiry": inquiry}}
    document = {
        "name": "small",
        "model": str(model),
        "seeds": 1,
        "train": {"worlds": worlds, "max_tokens": 6, "updates": 1, "groups": 1, "group_size": 4},
        "learner": {"lr": 0.01, **learner},
        "eval": {"worlds": worlds, "episodes": 2, "access_episodes": 0, "watch": ["never"], "placebo": ["none"]},
        "arms": {"unshaped": {"role": "reference", "reward": {"use": "RandomReward", "mode": "gaussian"}}},
    }
    execute(parse_study(document, "test").runs()[0], model, RunDirectory(folder))
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.parametrize("learner", [{}, {"lora": {"rank": 2}}], ids=["whole", "lora"])
def test_a_run_is_read_under_its_policy_and_under_the_model_that_it_started_from(
    model: Path, tmp_path: Path, learner: dict[str, Any]
) -> None:
    run = finished(model, tmp_path / "run", **learner)
    before = contents(run)
    width = json.loads((model / "config.json").read_text())["hidden_size"]
    weights = np.random.default_rng(0).normal(size=(1, width)).astype(np.float32)
    ProbeSet((0,), weights, np.zeros(1, np.float32), {"trait": "deception"}).save(tmp_path / "p.safetensors")
    arguments = ["probe", "read", str(run), "--probe", str(tmp_path / "p.safetensors"), "--device", "cpu"]
    result = CliRunner().invoke(app, [*arguments, "--out", str(tmp_path / "scores.jsonl")])
    assert result.exit_code == 0, result.output
    rows = [json.loads(line) for line in (tmp_path / "scores.jsonl").read_text().splitlines()]
    assert rows and {row["episode"] for row in rows} == {0, 1} and all(0 < row["p_ref"] < 1 for row in rows)
    assert any(row["p_pol"] != row["p_ref"] for row in rows), "training has moved the states"
    assert contents(run) == before


def test_beliefs_of_a_run_are_asked_and_kept(model: Path, tmp_path: Path) -> None:
    run = finished(model, tmp_path / "run")
    before = contents(run)
    told = CliRunner().invoke(app, ["belief", str(run), "--out", str(tmp_path / "b.jsonl"), "--device", "cpu"])
    assert told.exit_code == 0, told.output
    beliefs = [belief for of in read_beliefs(tmp_path / "b.jsonl").values() for belief in of]
    assert beliefs and all(len(belief.elicited) == 6 for belief in beliefs)
    assert f"{len(beliefs)} inquiries of" in told.output and "unknown: " in told.output
    assert contents(run) == before


def test_what_cannot_be_read_or_fitted_is_named(model: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"in none of its \d+ evaluation episodes .* set the option `inquiry`"):
        ask_run(finished(model, tmp_path / "run", inquiry=0.0), tmp_path / "b.jsonl", device="cpu")
    for data, why in (
        (ProbeData(personas=("honest",), episodes=5), "0 with the trait"),
        (ProbeData(worlds=("moon",)), "no world 'moon'"),
        (ProbeData(trait="malice", episodes=5), "unknown trait 'malice'"),
    ):
        with pytest.raises(ConfigError, match=f"probe fit: .*{why}"):
            fit_probe(str(model), tmp_path / "p.safetensors", data, device="cpu")
    assert not (tmp_path / "p.safetensors").exists()
    result = CliRunner().invoke(app, ["probe", "fit", str(model), "--out", "x", "--kind", "deep"])
    assert isinstance(result.exception, UserError) and "choose one of logistic, mass_mean" in str(result.exception)


def test_scores_are_summed_up_by_label() -> None:
    """By hand: the lie has .9 and .2, the truths .1 and .3: AUROC 1 under the policy, 1/2 under the frozen model."""
    values = [(0.9, 0.2, True), (0.1, 0.3, False), (0.3, 0.1, False)]
    rows = [{"p_pol": a, "p_ref": b, "label": label, "possible": True, "episode": 0} for a, b, label in values]
    rows.append({"p_pol": 1.0, "p_ref": 1.0, "label": False, "possible": False, "episode": 0})
    assert summary_of(rows) == [
        "p_pol: AUROC 1.000; mean 0.900 with the trait, 0.200 without it",
        "p_ref: AUROC 0.500; mean 0.200 with the trait, 0.200 without it",
        "obf_policy 1.000: innocent to the model before training, of 1 turns",
        "obf_act -0.700: p_ref less p_pol on them",
    ]
    assert "one class alone" in summary_of(rows[1:])[0]
