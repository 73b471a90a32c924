"""The space that a study asks for covers what its runs leave behind and the states of those that train at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from launch.config.loading import parse_study
from launch.config.study import RunConfig
from launch.run.execute import execute
from launch.storage.rundir import RunDirectory
from launch.storage.space import RUN_BYTES, needed, state_bytes
from shaping.models.model_files import shapes


def run(**changes: Any) -> RunConfig:
    train = {"worlds": {"controller_worlds:Vowels": {}}, "updates": 2, "groups": 2, "group_size": 4, "max_tokens": 8}
    document = {
        "name": "small",
        "train": {**train, "checkpoint_every": 1, **changes.pop("train", {})},
        "eval": {"worlds": {"controller_worlds:Vowels": {}}, "episodes": 1, "access_episodes": 0},
        "arms": {"one": {"role": "reference"}},
    }
    return parse_study({**document, **changes}, "test").runs()[0]


@pytest.mark.parametrize("learner", [{}, {"kl": 0.1}, {"lora": {"rank": 4}}])
def test_no_state_is_larger_than_the_estimate(model: Path, tmp_path: Path, learner: dict[str, Any]) -> None:
    directory, largest = RunDirectory(tmp_path / "run"), [0]

    def look(update: int, row: dict[str, Any]) -> None:
        largest.extend(file.stat().st_size for file in directory.state.rglob("tensors.safetensors"))

    config = run(learner=learner)
    execute(config, model, directory, look)
    assert state_bytes(config, shapes(model)) / 3 < max(largest) <= state_bytes(config, shapes(model)) + 100_000


def test_states_count_for_the_runs_that_train_at_a_time(model: Path) -> None:
    one = state_bytes(run(), shapes(model))
    runs = [(run(), model)] * 4
    assert needed(runs, 3) - needed(runs, 1) == 2 * 3 * one, "two states are kept while a third is written"
    assert needed(runs, 1) > 4 * RUN_BYTES + sum(file.stat().st_size for file in model.glob("*.safetensors"))
    assert state_bytes(run(train={"checkpoint_every": 0}), shapes(model)) == 0
