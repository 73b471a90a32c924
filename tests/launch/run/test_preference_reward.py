"""A run that a preference model pays: its score alone is what is learned from, and the curve of it is in the rows."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_preference import write_small

from envs.store import read_episodes
from launch.config.loading import parse_study
from launch.config.study import StudyConfig
from launch.errors import ConfigError
from launch.preflight import check_machine, missing_parts
from launch.run.execute import execute
from launch.storage.rundir import RunDirectory
from rewards import PreferenceModel
from rewards.base import scored
from shaping.audits.overoptimisation import path_of


def study(path: Path) -> StudyConfig:
    worlds = {"clerk": {"size": 2, "horizon": 3}}
    document = {
        "name": "small",
        "seeds": 1,
        "train": {
            **{"worlds": worlds, "updates": 2, "groups": 2, "group_size": 3, "max_tokens": 8},
            "save_episodes_every": 1,
        },
        "learner": {"kl": 1e-9, "lr": 1e-3},
        "eval": {"worlds": worlds, "episodes": 1, "access_episodes": 0},
        "arms": {"proxy": {"role": "reference", "reward": {"use": "PreferenceModel", "path": str(path)}}},
    }
    return parse_study(document, "test")


def test_a_run_is_paid_by_the_score_and_records_how_far_it_went(model: Path, tmp_path: Path) -> None:
    write_small(tmp_path / "pm", ["clerk"])
    directory = RunDirectory(tmp_path / "run")
    execute(study(tmp_path / "pm").runs()[0], model, directory)
    rows = directory.rows()
    for number, row in enumerate(rows):
        episodes = read_episodes(directory.path / "episodes" / f"train-{number:06d}.parquet")
        paid = scored(PreferenceModel(path=str(tmp_path / "pm")), [episode.redacted() for episode in episodes])
        assert row["paid"] == pytest.approx(sum(each.sum() for each in paid) / len(paid), abs=1e-4)
        assert row["sampled_tokens"] == pytest.approx(sum(e.loss_mask.sum() for e in episodes) / len(episodes))
    assert rows[0]["kl"] == pytest.approx(0, abs=1e-6) and rows[1]["kl"] > 0
    found = path_of(rows)
    assert found is not None and found.distance[1] == pytest.approx((rows[1]["kl"] * rows[1]["sampled_tokens"]) ** 0.5)


def test_a_study_does_not_start_without_its_model_but_its_dry_run_does(tmp_path: Path) -> None:
    (line,) = missing_parts(study(tmp_path / "none").runs())
    assert line.startswith("arms.proxy.reward: ") and "shaping preference train" in line
    with pytest.raises(ConfigError, match=r"arms\.proxy\.reward: .* holds no preference model"):
        check_machine(study(tmp_path / "none"), None)
