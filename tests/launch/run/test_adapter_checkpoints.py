"""A run with LoRA keeps its adapters and says on which model they were trained; what is loaded is what was trained."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import Result
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM
from typer.testing import CliRunner

from launch import cli
from launch.config.loading import parse_study
from launch.config.study import RunConfig
from launch.errors import ConfigError, RunDirectoryError
from launch.run.evaluation.evaluate import evaluate
from launch.run.execute import execute
from launch.run.models.load_policy import load_trained
from launch.run.models.start_model import start_model
from launch.storage.rundir import RunDirectory
from shaping.models.lora.base_reference import BaseReference

WORLD = {"controller_worlds:Vowels": {}}


@pytest.fixture(scope="module")
def start(babbling: Callable[..., Path]) -> Path:
    return babbling(vocabulary=700, episodes=40)


@pytest.fixture
def base(start: Path, tmp_path: Path) -> Path:
    """A model of our own, which the tests change."""
    return Path(shutil.copytree(start, tmp_path / "base"))


def config(base: Path, arm: dict[str, Any] | None = None, **learner: Any) -> RunConfig:
    document = {
        "name": "small",
        "seeds": 1,
        "model": str(base),
        "train": {"worlds": WORLD, "updates": 2, "groups": 2, "group_size": 4, "max_tokens": 8, "checkpoint_every": 1},
        "learner": {"lora": {"rank": 4}, "lr": 1e-2, "dtype": "bfloat16", **learner},
        "eval": {"worlds": WORLD, "episodes": 2, "access_episodes": 0},
        "arms": {"arm": {"role": "reference", **(arm or {})}},
    }
    return parse_study(document, "test").runs()[0]


def finished(base: Path, out: Path, arm: dict[str, Any] | None = None, **learner: Any) -> RunDirectory:
    directory = RunDirectory(out)
    execute(config(base, arm, **learner), base, directory)
    return directory


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(cli.app, [str(argument) for argument in arguments])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_run_is_evaluated_again_with_exactly_what_it_has_trained(base: Path, tmp_path: Path, dtype: str) -> None:
    """Two kept adapters and a quarantine: token by token the same, where a merge into bfloat16 gave other tokens."""
    arm = {"interventions": ["ray_worlds:Kept", "ray_worlds:Quarantined"]}
    directory = finished(base, tmp_path / "run", arm, dtype=dtype)
    names = ("eval.jsonl", "episodes/eval.parquet")
    before = [(directory.path / name).read_bytes() for name in names]
    evaluate(RunConfig.model_validate(directory.config()), directory.checkpoint, directory)
    assert [(directory.path / name).read_bytes() for name in names] == before
    assert sorted(path.name for path in (directory.checkpoint / "adapters").iterdir()) == ["kept", "own"]
    assert not list(directory.checkpoint.glob("*.safetensors")), "no copy of the base, merged or not"


def test_the_record_and_every_adapter_name_the_base_and_its_hash(base: Path, tmp_path: Path) -> None:
    directory = finished(base, tmp_path / "run", {"interventions": ["ray_worlds:Quarantined"]})
    wanted = BaseReference.of(base)
    start = json.loads((directory.path / "run.json").read_text())["start"]
    assert start == {"name": str(base), "revision": "", "hash": wanted.hash}
    for folder in ("checkpoint/adapters/kept", "quarantine/extra"):
        assert BaseReference.read(directory.path / folder) == wanted
    document = json.loads((directory.checkpoint / "checkpoint.json").read_text())
    assert document["adapters"] == ["kept"] and document["base"]["hash"] == wanted.hash


def test_a_state_holds_what_trains_and_not_the_base(base: Path, tmp_path: Path) -> None:
    seen: list[set[str]] = []
    directory = RunDirectory(tmp_path / "run")

    def look(update: int, row: dict[str, Any]) -> None:
        seen.extend(set(load_file(file)) for file in directory.state.rglob("tensors.safetensors"))

    execute(config(base), base, directory, look)
    weights = [name for name in seen[-1] if name.startswith("learner/policy.")]
    assert weights and all(".lora_" in name for name in weights)


def change(base: Path) -> None:
    weights = load_file(base / "model.safetensors")
    weights["model.norm.weight"] = weights["model.norm.weight"] * 1.5
    save_file(weights, base / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize("verb", ["eval", "export"])
@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (shutil.rmtree, "holds adapters of .*base, which is not here"),
        (change, "were trained on .*base with the hash .*differs from that: model.safetensors differs. Put"),
    ],
)
def test_a_base_that_is_gone_or_has_changed_is_one_clear_error(
    base: Path, tmp_path: Path, verb: str, harm: Callable[[Path], None], message: str
) -> None:
    directory = finished(base, tmp_path / "run")
    harm(base)
    with pytest.raises(ConfigError, match=message):
        load_trained(config(base), directory.checkpoint)
    result = invoke(verb, directory.path, *([tmp_path / "out"] if verb == "export" else []))
    assert result.exit_code != 0 and isinstance(result.exception, ConfigError)
    assert not (tmp_path / "out").exists()


def test_a_run_does_not_resume_on_another_base(base: Path, tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path / "run")

    def stop(update: int, row: dict[str, Any]) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        execute(config(base), base, directory, stop)
    change(base)
    with pytest.raises(RunDirectoryError, match=r"start model: model.safetensors differs"):
        execute(config(base), base, directory)


def test_damaged_adapters_and_those_of_an_unknown_base_are_refused(base: Path, tmp_path: Path) -> None:
    directory = finished(base, tmp_path / "run")
    document = directory.checkpoint / "checkpoint.json"
    whole = json.loads(document.read_text())
    document.write_text(json.dumps({**whole, "base": None}))
    with pytest.raises(ConfigError, match="does not say on which model"):
        load_trained(config(base), directory.checkpoint)
    document.write_text(json.dumps({**whole, "adapters": ["keep"]}))
    with pytest.raises(ConfigError, match=r"adapters/keep/adapter_config.json cannot be read"):
        load_trained(config(base), directory.checkpoint)
    with pytest.raises(ConfigError, match=r"holds adapters, not a whole model: .*shaping export"):
        start_model(str(directory.checkpoint))


def test_an_exported_model_is_plain_float32_and_the_line_says_what_rounding_has_changed(
    base: Path, tmp_path: Path
) -> None:
    directory = finished(base, tmp_path / "run")
    result = invoke("export", directory.path, tmp_path / "out")
    assert result.exit_code == 0 and "float32, merged in float32; rounding has changed" in result.output
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert plain.dtype == torch.float32
    trained = load_trained(config(base), directory.checkpoint).adapters.merge(dtype=torch.float32).weights
    assert all(torch.equal(tensor, trained[name]) for name, tensor in plain.state_dict().items())
    assert start_model(str(tmp_path / "out")) == tmp_path / "out", "runs can start from it"
    again = invoke("export", directory.path, tmp_path / "out")
    assert isinstance(again.exception, ConfigError) and "exists already" in str(again.exception)
    small = finished(base, tmp_path / "small", lr=1e-4)
    half = invoke("export", small.path, tmp_path / "half", "--dtype", "bfloat16")
    assert isinstance(half.exception, ConfigError) and not (tmp_path / "half").exists()
    assert "merged in bfloat16, the model loses" in str(half.exception) and "in float32" in str(half.exception)


def test_a_run_that_trains_all_weights_keeps_a_whole_model(base: Path, tmp_path: Path) -> None:
    directory = finished(base, tmp_path / "run", lora=None)
    assert (directory.checkpoint / "model.safetensors").is_file()
    assert not (directory.checkpoint / "checkpoint.json").exists()
    result = invoke("export", directory.path, tmp_path / "out")
    assert isinstance(result.exception, ConfigError) and "is a whole model already" in str(result.exception)
