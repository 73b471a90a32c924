"""Several seats on Ray: workers play the games and a learner rank trains, as one process does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from launch.config.loading import parse_study
from launch.config.study import RunConfig
from launch.distributed.local import RaySettings, running_ray
from launch.run.execute import execute
from launch.storage.rundir import RunDirectory

pytestmark = pytest.mark.slow
PLAYERS: dict[str, Any] = {
    "red": {},
    "blue": {"adapter": "rival"},
    "green": {"learns": 0.5, "opponents": {"unshaped": 1, "past": 2, "loud": 1}},
}


def config(strategy: str, **rollout: Any) -> RunConfig:
    world = {"seat_worlds:Duel": {"turns": 1}}
    small = {"updates": 3, "groups": 2, "group_size": 2, "max_tokens": 5, "device": "cpu"}
    document = {
        "name": "small",
        "seeds": 1,
        "train": {"worlds": world, **small, "learner_group": {"strategy": strategy}},
        "learner": {"lora": {"rank": 2}, "lr": 1e-2, "token_budget": 256},
        "eval": {"cells": ["train"], "episodes": 2, "watch": ["never"], "placebo": ["none"], "access_episodes": 0},
        "rollout": {"batching": "group", **rollout},
        "seats": {"players": PLAYERS, "snapshots": {"every": 1, "keep": 2}, "games": 4},
        "arms": {"arm": {"role": "reference", "seats": {"blue": ["Inoculation"]}}},
    }
    return parse_study(document, "test").runs()[0]


def test_workers_and_a_rank_do_what_one_process_does_to_the_bit(model: Path, tmp_path: Path) -> None:
    def finished(run: RunConfig, name: str) -> tuple[Any, ...]:
        directory = RunDirectory(tmp_path / name)
        result = execute(run, model, directory)
        adapters = sorted(directory.checkpoint.rglob("adapter_model.safetensors"))
        return directory.rows(), result["seats"], result["summary"]["elo"], [path.read_bytes() for path in adapters]

    here = finished(config("none"), "here")
    with running_ray(RaySettings(cpus=4)):
        assert finished(config("none", workers=2), "workers") == here
        assert finished(config("data", workers=1), "rank") == here
    assert len(here[3]) == 2
