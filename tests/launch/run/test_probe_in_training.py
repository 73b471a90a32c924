"""A probe in the loop: the engine shows it states, it is learned after updates, and then charges."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from launch.config.loading import parse_study
from launch.run.execute import execute
from launch.storage.rundir import RunDirectory


def test_the_probe_is_learned_from_the_states_that_the_engine_shows(model: Path, tmp_path: Path) -> None:
    world: dict[str, Any] = {"controller_worlds:Vowels": {}}
    probe = {"use": "ProbePenalty", "fit": 1, "labels": {"source": "oracle", "traits": ["reward_hack"]}}
    document = {
        "name": "small",
        "seeds": 1,
        "train": {"worlds": world, "updates": 2, "groups": 2, "group_size": 4, "max_tokens": 8},
        "eval": {"worlds": world, "episodes": 1, "access_episodes": 0, "watch": ["always"], "placebo": ["on"]},
        "arms": {"one": {"role": "reference", "interventions": [probe]}},
    }
    directory = RunDirectory(tmp_path / "run")
    result = execute(parse_study(document, "test").runs()[0], model, directory)
    first, second = (row["readings/probe_penalty/suspicion"] for row in directory.rows())
    assert first == 0 < second and result["oracle"]
