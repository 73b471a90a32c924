"""With rollout workers and learner ranks the controller holds no model, and the run is the same."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from memory import Peak
from rank_samples import uneven
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM

from launch.config.loading import parse_study
from launch.config.study import RunConfig
from launch.distributed.learner_group import LearnerGroup
from launch.distributed.local import RaySettings, running_ray
from launch.distributed.weights import PolicyWeights
from launch.run.build import build
from launch.run.execute import execute
from launch.run.models.trained import PolicyHere
from launch.storage.rundir import RunDirectory
from shaping.learning.policy import Policy

pytestmark = pytest.mark.slow
VOWELS: dict[str, Any] = {"controller_worlds:Vowels": {}}


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    with running_ray(RaySettings(cpus=4)):
        yield


def config(workers: int, strategy: str, ranks: int = 1, **learner: Any) -> RunConfig:
    small = {"updates": 2, "groups": 2, "group_size": 3, "max_tokens": 6, "checkpoint_every": 1}
    document = {
        "name": "small",
        "seeds": 1,
        "train": {"worlds": VOWELS, **small, "learner_group": {"strategy": strategy, "ranks": ranks}},
        "learner": {"token_budget": 256, "lr": 1e-3, **learner},
        "eval": {"worlds": VOWELS, "episodes": 2, "access_episodes": 1, "best_of": 2, "base": True},
        "rollout": {"workers": workers, **({"batching": "group"} if workers else {})},
        "arms": {"one": {"role": "reference"}},
    }
    return parse_study(document, "test").runs()[0]


def wide(small: Path, path: Path) -> int:
    """A random model of the same kind, much larger. Returns its bytes."""
    policy = Policy.load(small)
    settings = AutoConfig.from_pretrained(small).to_dict() | {"hidden_size": 768, "intermediate_size": 4096}
    model = AutoModelForCausalLM.from_config(type(policy.model.config).from_dict(settings))
    Policy(model, policy.tokenizer).save(path)
    return sum(parameter.nbytes for parameter in model.parameters())


def test_a_run_without_a_copy_in_the_controller_is_the_run_of_one_process(model: Path, tmp_path: Path) -> None:
    alone, spread = RunDirectory(tmp_path / "alone"), RunDirectory(tmp_path / "spread")
    expected, found = (execute(run, model, d) for run, d in ((config(0, "none"), alone), (config(1, "data"), spread)))
    for ours, theirs in zip(spread.rows(), alone.rows(), strict=True):
        assert ours.pop("phase") == theirs.pop("phase")
        assert ours == pytest.approx(theirs, rel=1e-4, abs=1e-5, nan_ok=True)
    weights = [load_file(d.checkpoint / "model.safetensors") for d in (spread, alone)]
    assert max(float((weights[0][name] - weights[1][name]).abs().max()) for name in weights[1]) < 1e-5
    assert found["summary"] == pytest.approx(expected["summary"], rel=1e-4, abs=1e-5, nan_ok=True)
    assert (spread.path / "eval.jsonl").read_text() == (alone.path / "eval.jsonl").read_text()
    assert Policy.load(spread.checkpoint).tokenizer.eos_token


def test_sharded_ranks_answer_for_the_policy(model: Path, tmp_path: Path) -> None:
    """Log-probs of the audit, checksums, and the saved model, wherever the disk of the controller is."""
    run, here = config(1, "fsdp", 2, kl=0.1), Policy.load(model)
    directory = RunDirectory(tmp_path / "run")
    directory.create(run.model_dump(mode="json"), {})
    with contextlib.closing(build(run, model)) as parts:
        ranks, local = parts.trained, PolicyHere(here, parts.arm)
        assert parts.policy is None and isinstance(ranks, LearnerGroup)
        assert ranks.vocabulary == local.vocabulary
        samples = uneven(0)
        expected = local.mean_logprob(samples, edited=True)
        assert ranks.mean_logprob(samples, edited=True) == pytest.approx(expected, abs=1e-5)
        weights = PolicyWeights(run, here, model, print)
        assert ranks.checksum("modules", "deployed", None) == weights.checksum("modules", "deployed", None)
        elsewhere = (directory.path / "run.json", "the digest of another file")
        assert ranks._call("save", directory.path, elsewhere)[0], "sent, since rank 0 takes the disk for another one"
        ranks.save(directory)
        state = directory.path / "state"
        state.mkdir()
        assert set(ranks.state_in(state)[0]) == {"rng-0.torch", "rng-1.torch"}
        assert [path.name for path in state.iterdir()] == ["learner.safetensors"]
        sent = ranks._call("state", state / "learner.safetensors", (state / "none", "another disk's"))[0][0]
        assert len(sent) > (state / "learner.safetensors").stat().st_size, "sent, since rank 0 shares no disk"
    saved, start = (load_file(d / "model.safetensors") for d in (directory.checkpoint, model))
    assert all(bool((saved[name] == start[name]).all()) for name in start)


def test_the_controllers_memory_does_not_grow_with_the_model(model: Path, tmp_path: Path) -> None:
    size = wide(model, tmp_path / "wide")
    peaks = []
    for number, path in enumerate((model, model, tmp_path / "wide")):  # the first run imports what all need
        with Peak() as peak:
            execute(config(1, "data"), path, RunDirectory(tmp_path / f"run-{number}"))
        peaks.append(peak.bytes)
    _, small, large = peaks
    print(
        f"{size / 1e6:.0f} MB of weights: {small / 1e6:.0f} MB in the controller with a tiny model, {large / 1e6:.0f}"
    )
    assert size > 3e7
    assert large - small < size / 4
