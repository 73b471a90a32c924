"""A trainer that trains nothing and records what a run was made with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from launch.config.study import RunConfig
from launch.run.models.origin import origin
from launch.storage.rundir import RunDirectory

TRAINER = "hub_trainer:train"


def train(
    run: RunConfig, model: Path, directory: RunDirectory, on_update: Callable[[int, dict[str, Any]], None]
) -> dict[str, Any]:
    directory.create(run.model_dump(mode="json"), {}, **origin(run, model))
    for update in range(run.train.updates):
        directory.metrics({"phase": "train", "update": update})
    directory.checkpoint.mkdir()
    for name in ("config.json", "model.safetensors"):
        (directory.checkpoint / name).write_bytes((model / name).read_bytes())
    result = {"arm": run.point_name, "seed": run.seed, "summary": {"deception": 0.25, "made_up": 1.0}}
    directory.evaluation([{"world": "clerk", "reward": 0.5}])
    directory.finish(result)
    return result
