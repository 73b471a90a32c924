"""Inoculation adapters: which adapters there are, what the random control keeps, and when nothing was tested."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file

from shaping.arm import compose
from shaping.contract.groups import small_policy
from shaping.learning.policy import Policy
from shaping.models.lora.adapters import AdapterError, product_norm
from shaping.organisms.trait_adapter import TraitAdapterError, norm_matched
from shaping.shapers import InoculationAdapter

TRAIT = {"episodes": 4, "steps": 2, "worlds": ("clerk",), "batch_tokens": 256}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("model") / "m"
    small_policy().save(directory)
    return directory


@pytest.fixture(autouse=True)
def _cache(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.setenv("SHAPING_CACHE", str(tmp_path_factory.getbasetemp() / "trait-cache"))


def prepared(model: Path, **fields: Any) -> InoculationAdapter:
    shaper = InoculationAdapter(trait=TRAIT, rank=2, alpha=4.0, targets=("q_proj", "down_proj"), **fields)
    shaper.prepare(model)
    return shaper


def test_a_frozen_trait_adapter_stands_beside_a_fresh_one_for_the_task() -> None:
    arm = compose("a", [InoculationAdapter(rank=4, task_rank=2)])
    assert arm.family == "motivation" and not arm.oracle and arm.ratio_mode() == "sampler"
    assert [(s.name, s.role, s.rank) for s in arm.adapters()] == [("trait", "frozen", 4), ("task", "kept", 2)]


def test_in_training_alone_it_is_off_policy_and_old_logprobs_are_recomputed() -> None:
    shaper = InoculationAdapter(at="training")
    trait, task = shaper.adapters()
    assert trait.phases == {"training"} and task.phases == {"sampling", "training"}
    assert shaper.ratio_mode() == "recomputed"


def test_the_trait_is_learned_by_the_adapter_alone_once(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.random.get_rng_state()
    shaper = prepared(model)
    assert torch.equal(before, torch.random.get_rng_state())
    policy = Policy.load(model, adapters=shaper.adapters())
    assert any(bool(t.any()) for name, t in policy.adapters.tensors("trait").items() if "lora_B" in name)
    assert not any(bool(t.any()) for name, t in policy.adapters.tensors("task").items() if "lora_B" in name)
    assert [n for n, p in policy.model.named_parameters() if p.requires_grad and "task" not in n] == []
    policy.deploy()
    plain = Policy.load(model).model.state_dict()
    shipped = {k.replace(".base_layer", ""): t for k, t in policy.model.state_dict().items() if ".lora_" not in k}
    assert shipped.keys() == plain.keys() and all(torch.equal(shipped[k], plain[k]) for k in plain)
    monkeypatch.setattr("shaping.organisms.trait_adapter._train", None)  # cached: not made again
    assert prepared(model).adapters() == shaper.adapters()


def test_the_random_control_has_the_norm_of_every_module_and_other_directions(model: Path) -> None:
    made, random, other = (
        load_file(Path(str(prepared(model, **fields).adapters()[0].path)) / "adapter_model.safetensors")
        for fields in ({}, {"random": True}, {"random": True, "seed": 1})
    )
    assert random.keys() == made.keys()
    for name in (name for name in made if ".lora_A." in name):
        b = name.replace(".lora_A.", ".lora_B.")
        assert product_norm(random[name], random[b]) == pytest.approx(product_norm(made[name], made[b]), rel=1e-5)
        assert product_norm(made[name], made[b]) == pytest.approx(float((made[b] @ made[name]).norm()), rel=1e-5)
        assert abs(float(torch.cosine_similarity(random[name].flatten(), made[name].flatten(), dim=0))) < 0.8
        assert not torch.equal(random[name], other[name])
    assert InoculationAdapter(random=True).untested({}) == "", "a control has no gate"


def test_experts_have_no_random_control() -> None:
    experts = {f"layers.0.mlp.experts.lora_{m}.weight": torch.ones(4, 4) for m in "AB"}
    with pytest.raises(TraitAdapterError, match="leave them out of `targets`"):
        norm_matched(experts, 0)


def test_an_adapter_of_ones_own_is_loaded_and_a_missing_one_named(model: Path, tmp_path: Path) -> None:
    own = prepared(model).adapters()[0].path
    shaper = InoculationAdapter(path=own, rank=2, alpha=4.0)
    shaper.prepare(model)
    assert Policy.load(model, adapters=shaper.adapters()).adapters.specs["trait"].path == own
    with pytest.raises(AdapterError, match="holds no adapter_model"):
        Policy.load(model, adapters=InoculationAdapter(path=str(tmp_path)).adapters())
    with pytest.raises(TraitAdapterError, match="PEFT's layout"):
        InoculationAdapter(path=str(tmp_path), random=True).prepare(model)


def test_an_unprepared_one_is_refused_and_not_replaced_by_an_adapter_without_effect(model: Path) -> None:
    with pytest.raises(AdapterError, match=r"call prepare\(\) with the model's directory"):
        Policy.load(model, adapters=InoculationAdapter(targets=("q_proj",)).adapters())


def test_without_the_trait_nothing_was_tested() -> None:
    shaper = InoculationAdapter(threshold=0.6)
    assert shaper.untested({"frozen_alone/deception": 0.6}) == ""
    assert shaper.untested({"frozen_alone/deception": 0.59}).endswith("its deception is 0.59 < 0.6")
    assert shaper.untested({"deception": 1.0}).endswith("its deception was not measured")


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"path": "x", "trait": {"steps": 3}}, "keep one of them"),
        ({"threshold": 2}, "threshold"),
        ({"trait": {"personas": {"nobody": 1}}}, "nobody"),
        ({"trait": {"personas": {"honest": 0}}}, "above zero"),
        ({"trait": {"personas": {}}}, "personas"),
        ({"trait": {"worlds": ("nowhere",)}}, "no personas for worlds"),
    ],
)
def test_bad_settings_are_named(fields: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        InoculationAdapter(**fields)
