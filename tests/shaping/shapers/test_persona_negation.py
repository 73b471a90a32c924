"""Negation of a persona's adapter: training does not know of it, and deployment subtracts it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from rank_samples import sample
from safetensors.torch import load_file

from shaping.arm import compose
from shaping.contract.groups import small_policy
from shaping.hooks import AdapterSpec
from shaping.learning.config import LearnerConfig
from shaping.learning.learner import Learner
from shaping.learning.policy import Policy
from shaping.learning.samples.packing import pack
from shaping.models.lora.adapter_checkpoint import specs_of, stored_adapters
from shaping.organisms.trait_adapter import TraitAdapterError
from shaping.shapers import PersonaNegation

SMALL = {"rank": 2, "alpha": 4.0, "task_rank": 2, "task_alpha": 4.0, "targets": ("q_proj", "down_proj")}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("model") / "m"
    small_policy().save(directory)
    return directory


@pytest.fixture(scope="module")
def persona(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    policy = Policy.load(model, adapters=[AdapterSpec("p", "kept", 2, 4.0, ("q_proj", "down_proj"))])
    with torch.no_grad():
        for weight in policy.adapters.matrices("p"):
            weight.normal_(std=0.1, generator=torch.Generator().manual_seed(weight.numel()))
    directory = tmp_path_factory.mktemp("persona")
    policy.adapters.save("p", directory, policy.base)
    return directory


def prepared(
    model: Path, persona: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, **fields: Any
) -> PersonaNegation:
    monkeypatch.setenv("SHAPING_CACHE", str(tmp_path / "cache"))
    shaper = PersonaNegation(path=str(persona), **SMALL, **fields)
    shaper.prepare(model)
    return shaper


def trained(policy: Policy) -> Policy:
    learner = Learner(policy, LearnerConfig(lr=1e-2, max_mismatch_kl=1e9, weight_decay=0.1))
    learner.update([sample(20 + i, i) for i in range(3)])
    return policy


def test_training_is_that_of_the_task_adapter_alone_and_deployment_subtracts(
    model: Path, persona: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shaper = prepared(model, persona, monkeypatch, tmp_path, strength=0.5)
    arm = compose("a", [shaper])
    assert arm.family == "motivation" and not arm.owner and arm.ratio_mode() == "sampler"
    torch.manual_seed(0)
    policy = trained(Policy.load(model, adapters=arm.adapters()))
    torch.manual_seed(0)
    alone = trained(Policy.load(model, adapters=[s for s in arm.adapters() if s.name == "task"]))
    task = alone.adapters.tensors("task")
    assert all(torch.equal(t, task[k]) for k, t in policy.adapters.tensors("task").items())
    stored = load_file(persona / "adapter_model.safetensors")
    for key, tensor in policy.adapters.tensors("negated").items():
        assert torch.equal(tensor, (-0.5 if ".lora_B." in key else 1.0) * stored[key]), "not trained, and not decayed"
    policy.deploy()
    assert policy.adapters.active == ("task", "negated")
    policy.save(tmp_path / "saved")
    document = stored_adapters(tmp_path / "saved")
    assert document is not None
    again = Policy.load(model, adapters=specs_of(tmp_path / "saved", document))
    batch = pack([sample(20, 0)], 1000, policy.device)[0]
    assert torch.equal(policy.logprobs(batch)[0], again.logprobs(batch)[0])
    assert not torch.equal(policy.logprobs(batch)[0], alone.logprobs(batch)[0])


def test_at_strength_zero_the_task_adapter_is_deployed_as_it_is(
    model: Path, persona: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    shaper = prepared(model, persona, monkeypatch, tmp_path, strength=0.0)
    policy = trained(Policy.load(model, adapters=shaper.adapters()))
    torch.manual_seed(0)
    alone = trained(Policy.load(model, adapters=[shaper.adapters()[0]]))
    policy.deploy()
    batch = pack([sample(20, 0)], 1000, policy.device)[0]
    assert torch.equal(policy.logprobs(batch)[0], alone.logprobs(batch)[0])


def test_the_control_subtracts_other_matrices(
    model: Path, persona: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    paths = [
        prepared(model, persona, monkeypatch, tmp_path, **fields).adapters()[1].path
        for fields in ({}, {"random": True}, {"random": True, "seed": 1})
    ]
    assert len(set(paths)) == 3


def test_what_cannot_be_negated_is_named(model: Path, tmp_path: Path) -> None:
    with pytest.raises(TraitAdapterError, match="PEFT's layout"):
        PersonaNegation(path=str(tmp_path)).prepare(model)
    for fields in ({"strength": -1}, {"path": "x", "trait": {"steps": 3}}):
        with pytest.raises(ValidationError):
            PersonaNegation(**fields)  # type: ignore[arg-type]
