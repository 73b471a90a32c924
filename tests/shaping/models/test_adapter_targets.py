"""Adapters go where they have an effect, and what they leave alone is said."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from families import SEQUENCES, plain_logprobs, tiny

from shaping.hooks import AdapterSpec
from shaping.learning.policy import Policy
from shaping.models import log_once
from shaping.models.lora import adapters as module
from shaping.models.lora.adapter_targets import adaptable, left_alone
from shaping.models.lora.adapters import AdapterError, Adapters

KEPT = AdapterSpec("kept", "kept", rank=2, alpha=6.0)


@pytest.mark.parametrize(
    ("family", "alone"),
    [
        ("llama", []),
        ("gpt2", []),
        ("falcon", []),
        ("mixtral", ["mlp.gate", "mlp.experts.gate_up_proj", "mlp.experts.down_proj"]),
        ("jamba", ["mamba.dt_proj", "feed_forward.experts.down_proj"]),
        ("falcon_h1", ["mamba.out_proj"]),
        ("llama4_text", ["feed_forward.router", "feed_forward.experts.gate_up_proj"]),
    ],
)
def test_what_an_adapter_of_all_layers_leaves_alone_is_named(
    family: str, alone: list[str], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_once, "_told", set())
    model = tiny(family)
    with caplog.at_level(logging.WARNING, logger=module.__name__):
        Adapters(model, [KEPT])
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == bool(alone) and all(f".layers.*.{name}" in said[0] for name in alone)


def test_every_adapter_has_an_effect() -> None:
    """A change of any of them changes the output; in Jamba the weight of dt_proj is read without a call."""
    for family in ("jamba", "mamba", "llama4_text", "falcon", "gpt2"):
        model = tiny(family)
        adapters, before = Adapters(model, [KEPT]), plain_logprobs(model, SEQUENCES[1])
        for name, parameter in list(model.named_parameters()):
            if ".lora_B." in name:
                with torch.no_grad():
                    parameter.add_(0.5)
                    assert not torch.equal(plain_logprobs(model, SEQUENCES[1]), before), f"{family}: {name}"
                    parameter.sub_(0.5)
        adapters.drop(("kept",))


@pytest.mark.parametrize(
    ("family", "target"), [("mamba2", "out_proj"), ("jamba", "dt_proj"), ("llama4_text", "router")]
)
def test_a_target_without_effect_is_refused(family: str, target: str) -> None:
    with pytest.raises(AdapterError, match=f"does not call '{target}' as a plain linear layer"):
        Adapters(tiny(family), [AdapterSpec("kept", "kept", targets=(target,))])


def test_a_model_without_such_layers_is_refused_with_what_it_has() -> None:
    model = tiny("llama")
    for layer in model.model.layers:
        layer.self_attn, layer.mlp = torch.nn.Conv1d(2, 2, 1), torch.nn.Identity()
    assert adaptable(model) == [] and left_alone(model, ()) == ["model.layers.*.self_attn"]
    with pytest.raises(AdapterError, match=r"no linear modules to adapt; its matrices are model.layers.\*.self_attn"):
        Adapters(model, [KEPT])


def test_transposed_layers_are_saved_so_that_peft_computes_the_same(
    make_policy: Callable[..., Policy], tmp_path: Path
) -> None:
    from peft import PeftModel

    policy = Policy(tiny("gpt2"), make_policy().tokenizer, adapters=[KEPT])
    with torch.no_grad():
        for parameter in policy.adapters.parameters("kept"):
            parameter.normal_(0.0, 0.1, generator=torch.Generator().manual_seed(1))
    ours = plain_logprobs(policy.model, SEQUENCES[1])
    policy.adapters.save("kept", tmp_path / "kept")
    theirs = PeftModel.from_pretrained(tiny("gpt2"), str(tmp_path / "kept"))
    assert torch.allclose(plain_logprobs(theirs.base_model.model, SEQUENCES[1]), ours, atol=1e-5)
    plain = tiny("gpt2")
    assert float((plain_logprobs(plain, SEQUENCES[1]) - ours).abs().max()) > 1e-2
    plain.load_state_dict(policy.adapters.merge().weights)
    assert torch.allclose(plain_logprobs(plain, SEQUENCES[1]), ours, atol=1e-4)
