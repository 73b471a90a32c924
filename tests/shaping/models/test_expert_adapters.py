"""Adapters of experts that a model keeps as one tensor: they train, merge, save and vanish like others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from families import SEQUENCES, plain_logprobs, tiny

from shaping.hooks import AdapterSpec
from shaping.learning.policy import Policy
from shaping.models.lora.adapter_checkpoint import specs_of, stored_adapters
from shaping.models.lora.adapter_targets import expert_parameters
from shaping.models.lora.adapters import AdapterError, Adapters

EXPERTS = ("experts.gate_up_proj", "experts.down_proj")
SPECS = [
    AdapterSpec("kept", "kept", 2, 6.0, (*EXPERTS, "q_proj")),
    AdapterSpec("apart", "quarantine", 3, 6.0, EXPERTS),
]


def disturbed(adapters: Adapters) -> None:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in [*adapters.parameters("kept"), *adapters.parameters("quarantine")]:
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.3)


@pytest.mark.parametrize("family", ["qwen3_moe", "mixtral", "gpt_oss", "llama4_text"])
def test_a_merge_computes_what_the_adapters_compute_and_nothing_stays(family: str) -> None:
    model = tiny(family)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    plain = plain_logprobs(model, SEQUENCES[1])
    assert set(EXPERTS) <= set(expert_parameters(model))
    adapters = Adapters(model, SPECS)
    assert torch.equal(plain_logprobs(model, SEQUENCES[1]), plain), "new adapters add nothing"
    disturbed(adapters)
    for active in (["kept"], ["kept", "apart"]):
        adapters.activate(active)
        together = plain_logprobs(model, SEQUENCES[1])
        other = tiny(family)
        other.load_state_dict(adapters.merge().weights)
        assert torch.allclose(plain_logprobs(other, SEQUENCES[1]), together, atol=2e-5)
        assert not torch.allclose(together, plain, atol=1e-2)
    adapters.drop(("apart", "kept"))
    after = model.state_dict()
    assert set(after) == set(before) and all(torch.equal(after[name], before[name]) for name in before)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_every_matrix_of_an_expert_s_adapter_gets_a_gradient(
    make_policy: Callable[..., Policy], checkpointing: bool
) -> None:
    model = tiny("qwen3_moe")
    policy = Policy(model, make_policy().tokenizer, adapters=SPECS[:1])
    disturbed(policy.adapters)
    if checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
        model.train()
    ids = torch.arange(3, 23)[None]
    model(input_ids=ids).logits.log_softmax(-1)[..., 5].sum().backward()
    trained = policy.groups()["kept"]
    assert all(parameter.grad is not None and bool(parameter.grad.any()) for parameter in trained)
    assert all(p.grad is None for name, p in model.named_parameters() if ".lora_" not in name), "the base is frozen"


def test_saved_adapters_of_experts_load_again(make_policy: Callable[..., Policy], tmp_path: Path) -> None:
    tokenizer = make_policy().tokenizer
    Policy(tiny("qwen3_moe"), tokenizer).save(tmp_path / "base")
    policy = Policy.load(tmp_path / "base", adapters=SPECS[:1])
    disturbed(policy.adapters)
    policy.save(tmp_path / "trained")
    stored = stored_adapters(tmp_path / "trained")
    assert stored is not None
    specs = specs_of(tmp_path / "trained", stored)
    assert sorted(specs[0].targets) == sorted(SPECS[0].targets)
    again = Policy.load(tmp_path / "base", adapters=specs)
    assert torch.equal(plain_logprobs(again.model, SEQUENCES[1]), plain_logprobs(policy.model, SEQUENCES[1]))


def test_where_it_cannot_it_is_said() -> None:
    with pytest.raises(AdapterError, match=r"has no linear module called 'experts\.down_proj'; it has .*q_proj"):
        Adapters(tiny("llama"), SPECS[:1])
    adapters = Adapters(tiny("qwen3_moe"), SPECS[:1])
    with pytest.raises(AdapterError, match=r"adapters of experts\.\w+ cannot be one with others: merge them"):
        adapters.combined(("kept",))
