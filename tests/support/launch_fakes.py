"""A trainer that trains nothing, and an organism that is an empty model: studies on a real Ray, in seconds.

What a run does is told by its arm's label: "" finishes, "raises" and "exits" fail every time, "stumbles" and "crashes"
only the first time, "waits" does not end the first time, "slow" takes a tenth of a second per update, "full" has no
disk space left.
"""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from launch.config.loading import parse_study
from launch.config.study import RunConfig, StudyConfig
from launch.storage.rundir import RunDirectory

TRAINER, START_MODEL = "launch_fakes:train", "launch_fakes:start_model"


def start_model(config: object, progress: Callable[[int, int, str], None]) -> Path:
    progress(1, 1, "pre-training, loss 0.0")
    path = Path(os.environ["FAKE_MODEL"])
    path.mkdir(parents=True, exist_ok=True)
    (path / "config.json").write_text("{}")
    return path


def train(
    run: RunConfig, model: Path, directory: RunDirectory, on_update: Callable[[int, dict[str, Any]], None]
) -> dict[str, Any]:
    print(f"training {run.directory_name}")
    assert (model / "config.json").exists()
    label = run.arm_config.label
    directory.create(run.model_dump(mode="json"), {})
    first = _first_try(directory)
    for update in range(run.train.updates):
        row = {"phase": "train", "update": update, "reward": update / 10, "loss": float("nan")}
        directory.metrics(row)
        on_update(update, row)
        if label == "slow":
            time.sleep(0.1)
        while label == "waits" and first:
            time.sleep(0.1)
        if label == "raises" or (label == "stumbles" and first):
            raise ArithmeticError("the loss is not finite")
        if label == "exits" or (label == "crashes" and first):
            os._exit(3)
        if label == "full":
            raise OSError(errno.ENOSPC, "No space left on device")
    directory.checkpoint.mkdir()
    (directory.checkpoint / "config.json").write_text("{}")
    directory.evaluation([{"world": "clerk", "reward": 0.5}])
    result = {"arm": run.point_name, "seed": run.seed, "pid": os.getpid(), "threads": os.environ.get("OMP_NUM_THREADS")}
    directory.finish(result)
    return result


def _first_try(directory: RunDirectory) -> bool:
    path = directory.path.with_name(f"{directory.path.name}.tried")
    seen = path.exists()
    path.touch()
    return not seen


def study(output: Path, arms: dict[str, Any], **changes: Any) -> StudyConfig:
    """A small study. `arms` maps a name to a label, or to a whole arm; the first one is the reference."""
    document = {
        "name": "small",
        "seeds": 2,
        "train": {"worlds": {"steward": {"size": 2}}, "updates": 3, "groups": 1, "group_size": 2},
        "eval": {"worlds": {"clerk": {"size": 2}}, "episodes": 1},
        "arms": {
            name: {"role": "treatment" if index else "reference"} | ({"label": arm} if isinstance(arm, str) else arm)
            for index, (name, arm) in enumerate(arms.items())
        },
        "output": str(output),
    }
    return parse_study({**document, **changes}, "test")


def results(directory: Path) -> dict[str, dict[str, Any]]:
    """Run name -> result.json of every finished run."""
    found = sorted((directory / "runs").glob("*/seed-*/result.json"))
    return {str(p.parent.relative_to(directory / "runs")): json.loads(p.read_text()) for p in found}
