"""Directions in the loop: found at the start, used by learner and sampler, found anew, and kept by checkpoints."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from launch.config.loading import parse_study
from launch.config.study import RunConfig
from launch.directions.command import find_directions
from launch.errors import ConfigError
from launch.run.execute import execute
from launch.storage.rundir import RunDirectory
from shaping.directions.direction_set import DirectionSet

CONTRAST = {"positive": ["deceiver"], "negative": ["honest"], "episodes": 2, "turns": 2}


class Killed(BaseException):
    """What ends a process."""


def killed_after(update: int) -> Callable[[int, dict[str, Any]], None]:
    def watch(number: int, row: dict[str, Any]) -> None:
        if number == update:
            raise Killed

    return watch


def config(interventions: list[Any], monitors: list[Any], **train: Any) -> RunConfig:
    worlds: dict[str, Any] = {"controller_worlds:Vowels": {}}
    small = {"worlds": worlds, "updates": 2, "groups": 2, "group_size": 4, "max_tokens": 8}
    evaluation = {"worlds": worlds, "episodes": 1, "access_episodes": 0, "watch": ["always"], "placebo": ["on"]}
    document = {
        "name": "small",
        "seeds": 1,
        "train": {**small, "checkpoint_every": 1, **train},
        "eval": {**evaluation, "monitors": monitors},
        "arms": {"one": {"role": "reference", "interventions": interventions}},
    }
    return parse_study(document, "test").runs()[0]


def test_a_direction_is_used_on_both_sides_found_anew_and_outlives_a_kill(model: Path, tmp_path: Path) -> None:
    file = tmp_path / "d.safetensors"
    (tmp_path / "c.yaml").write_text(json.dumps(CONTRAST))
    find_directions(str(model), file, contrast=str(tmp_path / "c.yaml"), device="cpu")
    steering = {"use": "PreventativeSteering", "direction": {"contrast": CONTRAST}, "alpha": 0.2, "at": "both"}
    monitor = {"use": "PersonaMonitor", "path": str(file)}
    run = config([{**steering, "every": 1}], [monitor])
    whole, broken = RunDirectory(tmp_path / "a"), RunDirectory(tmp_path / "b")
    result = execute(run, model, whole)
    with pytest.raises(Killed):
        execute(run, model, broken, killed_after(0))
    execute(run, model, broken)
    rows = whole.rows()
    assert rows == broken.rows()
    # sampler and learner have the same edits, though these change after every update
    assert all(row["mismatch_kl"] < 1e-6 for row in rows)
    cosines = [row["refresh/preventative_steering/cosine"] for row in rows]
    assert all(0 < cosine <= 1.000001 for cosine in cosines) and min(cosines) < 1
    assert all(0 < row["monitor/persona/deception/score"] < 1 for row in rows)
    (state,) = result["interventions"]
    assert state["directions"]["layers"] == [0]


def test_the_command_writes_a_file_with_a_card_and_refuses_what_it_cannot_find(model: Path, tmp_path: Path) -> None:
    yaml = tmp_path / "own.yaml"
    yaml.write_text("positive: [power_seeker]\nnegative: [honest, random]\nepisodes: 4\nturns: 2\n")
    lines = find_directions(str(model), tmp_path / "d.safetensors", contrast=str(yaml), layers="-1", device="cpu")
    found = DirectionSet.load(tmp_path / "d.safetensors")
    assert found.layers == (0,) and len(found.card["hash"]) == 32 and found.card["model"]
    assert lines[0].startswith("layer 0: length ") and lines[-1] == f"kept in {tmp_path / 'd.safetensors'}"
    find_directions(str(model), tmp_path / "r.safetensors", contrast=str(yaml), layers="0", random=3, device="cpu")
    drawn = DirectionSet.load(tmp_path / "r.safetensors")
    assert drawn.card["random"] == 3 and abs(drawn.cosine(found)) < 0.9
    for settings, why in (
        ({"contrast": "nobody"}, "neither a file nor one of deception"),
        ({"layers": "some"}, "not best, all, or whole numbers"),
        ({"layers": "4"}, "layer 4, but LlamaForCausalLM has 1 layers"),
    ):
        with pytest.raises(ConfigError, match=why):
            find_directions(str(model), tmp_path / "x.safetensors", device="cpu", **settings)


def test_consistency_and_sealing_go_through_the_loop_and_outlive_a_kill(model: Path, tmp_path: Path) -> None:
    """Kept answers are a part of the state; what is sealed is sampled without a prompt and learned by imitation."""
    shapers = [
        {"use": "SealedInoculation", "after": 1, "keep_overt": True},
        {"use": "BiasConsistency", "targets": "stale", "every": 1, "pairs": 2},
        {"use": "ActivationConsistency", "weight": 0.1},
    ]
    run, whole, broken = config(shapers, [], updates=3), RunDirectory(tmp_path / "a"), RunDirectory(tmp_path / "b")
    execute(run, model, whole)
    with pytest.raises(Killed):
        execute(run, model, broken, killed_after(1))
    execute(run, model, broken)
    rows = whole.rows()
    assert rows == broken.rows()
    assert all(row["auxiliary/activation_consistency"] > 0 for row in rows)
    sealed = [row["readings/sealed_inoculation/sealed_turns"] for row in rows]
    assert sealed[0] == 0 and min(sealed[1:]) > 0
    assert "imitation" not in rows[0] and all(row["imitation"] > 0 for row in rows[1:])
