"""Every family says in training and in sampling what it says in its own forward pass; or it is refused by name."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from families import FAMILIES, SEQUENCES, measure, packed_logprobs, plain_logprobs, sample_of, tiny
from families_table import row
from transformers import AutoModelForCausalLM, Gemma3Config

from shaping.learning.config import LearnerConfig
from shaping.learning.learner import Learner
from shaping.learning.policy import Policy
from shaping.models import self_check
from shaping.models.context import longest_context
from shaping.models.edits import decoder_layers
from shaping.models.forward import layout_of
from shaping.models.self_check import ModelRefused, examine
from shaping.models.shared_prefix import SharedPrefixes

RECURRENT = {
    *("qwen3_next", "qwen3_5_text", "granitemoehybrid", "bamba", "falcon_h1", "mamba", "mamba2", "lfm2"),
    *("recurrent_gemma", "jamba", "rwkv", "minimax", "olmo_hybrid"),
}
CHUNKED = {"llama4_text"}
OWN_ATTENTION = {"falcon", "bloom", "mpt", "stablelm", "nemotron", "xglm", "gptj", "codegen", "gpt_neo"}
PAGE = (Path(__file__).resolve().parents[3] / "docs" / "models.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("family", FAMILIES)
def test_training_sampling_and_lora_agree_with_the_models_own_forward_pass(
    family: str, make_policy: Callable[..., Policy]
) -> None:
    found = measure(family, make_policy().tokenizer)
    assert found.train < 1e-4 and found.sample < 1e-4
    assert found.lora is not None and found.lora < 1e-4
    assert found.steer is None or found.steer < 1e-4
    assert row(family, found) in PAGE.splitlines(), "write it again with `make models-table`"


@pytest.mark.parametrize("family", ["granite", "gemma2", "gpt_oss", "mamba2", "qwen3_next"])
def test_an_update_trains_it(family: str, make_policy: Callable[..., Policy]) -> None:
    policy = Policy(tiny(family), make_policy().tokenizer)
    before = packed_logprobs(policy, SEQUENCES)
    Learner(policy, LearnerConfig(lr=1e-3)).update([sample_of(tokens) for tokens in SEQUENCES])
    after = packed_logprobs(policy, SEQUENCES)
    assert all(float(b.sum()) > float(a.sum()) for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize("family", FAMILIES)
def test_models_are_packed_unless_state_would_leak_between_sequences(
    family: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        layout = layout_of(tiny(family))
    assert layout.packed == (family not in RECURRENT | CHUNKED | OWN_ATTENTION)
    assert layout.packed or "one sequence per padded row, since packing" in caplog.text
    assert layout.shares == layout.packed
    assert family not in RECURRENT | CHUNKED or "layers" in layout.why


@pytest.mark.parametrize("fails", [True, False])
def test_a_model_that_shares_no_prefix_exactly_computes_each_and_says_so(
    fails: bool, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = SharedPrefixes.attend

    def attend(plan: SharedPrefixes, *args: Any) -> torch.Tensor:
        if fails:
            raise RuntimeError("no such kernel")
        return real(plan, *args) * 1.1

    monkeypatch.setattr(SharedPrefixes, "attend", attend)
    layout = examine(tiny("llama"))
    assert layout.packed and not layout.shares
    said = "sharing it fails: no such kernel" if fails else "sharing it changes log-probs by"
    assert f"LlamaForCausalLM computes a common prefix once for every sequence, since {said}" in caplog.text


def test_a_context_that_is_too_short_for_the_check_shares_nothing() -> None:
    assert not examine(tiny("llama", max_position_embeddings=16)).shares


@pytest.mark.parametrize(
    ("family", "scale"), [("granite", 1 / 8), ("cohere", 0.25), ("minicpm3", 0.25), ("hyperclovax", 0.2)]
)
def test_the_factor_of_the_logits_is_found_whichever_way_a_model_applies_it(family: str, scale: float) -> None:
    assert layout_of(tiny(family)).head.scale == scale


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt_oss", "qwen3_moe", "lfm2", "falcon_h1"])
def test_the_check_is_right_in_the_runs_type(family: str, dtype: torch.dtype) -> None:
    assert layout_of(tiny(family).to(dtype)).packed == (family not in RECURRENT)


def test_an_output_layer_with_arithmetic_of_its_own_is_refused_with_its_setting() -> None:
    model = tiny("granite")
    model.lm_head.register_forward_hook(lambda *_: None)
    own = type(model).forward

    class Odd(type(model)):  # type: ignore[misc]
        def forward(self, *args: object, **kwargs: object) -> object:
            out = own(self, *args, **kwargs)
            out.logits = out.logits**3
            return out

    model.__class__ = Odd
    with pytest.raises(ModelRefused, match=r"Odd is refused: its logits are not its output layer's.*logits_scaling=8"):
        examine(model)


def test_a_model_that_agrees_in_no_layout_is_refused_with_both_reasons(monkeypatch: pytest.MonkeyPatch) -> None:
    real = self_check.padded_states
    monkeypatch.setattr(self_check, "padded_states", lambda *args: real(*args) * 1.1)
    with pytest.raises(ModelRefused, match=r"Mamba2ForCausalLM is refused: packing .*Mamba2Mixer.*padding gives log-p"):
        examine(tiny("mamba2"))


def test_the_check_leaves_no_trace() -> None:
    model = tiny("gemma2").train()
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    examine(model)
    assert torch.equal(torch.rand(3), expected)
    assert model.training and all(module.training for module in model.modules())
    assert {layer.self_attn.sliding_window for layer in model.model.layers} == {8, None}
    assert all(torch.equal(tensor, weights[name]) for name, tensor in model.state_dict().items())
    assert not any(parameter.grad is not None for parameter in model.parameters())


def test_windows_are_shorter_during_the_check_than_its_longer_sequence() -> None:
    model = tiny("mistral", sliding_window=4096)
    with self_check.short_windows(model):
        assert model.config.sliding_window == 8 < self_check.LENGTHS[1]
    assert model.config.sliding_window == 4096


def test_a_config_without_a_context_length_gives_a_sentence() -> None:
    assert longest_context(tiny("gpt2").config) == 128 == longest_context(tiny("mpt").config)
    with pytest.raises(ValueError, match=r"Mamba2Config does not say how long .* write max_position_embeddings into"):
        longest_context(tiny("mamba2").config)


def test_a_model_whose_own_forward_pass_fails_is_refused_with_its_error() -> None:
    model = tiny("llama")
    model.model.layers[0].mlp.up_proj = torch.nn.Linear(7, 48)
    with pytest.raises(ModelRefused, match="LlamaForCausalLM is refused: its own forward pass fails: mat1 and mat2"):
        examine(model)


def test_the_text_part_of_a_model_with_nested_configs_is_run(make_policy: Callable[..., Policy]) -> None:
    text = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "head_dim": 8}
    text |= {"num_key_value_heads": 2, "sliding_window": 8, "max_position_embeddings": 128, "vocab_size": 320}
    vision = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = Gemma3Config(
        text_config={**text, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2},
        vision_config={**vision, "image_size": 28, "patch_size": 14},
        **{"image_token_index": 319, "boi_token_index": 317, "eoi_token_index": 318, "mm_tokens_per_image": 4},
    )
    model = AutoModelForCausalLM.from_config(config)
    plain, policy = copy.deepcopy(model).eval(), Policy(model.train(), make_policy().tokenizer)
    for tokens, found in zip(SEQUENCES, packed_logprobs(policy, SEQUENCES), strict=True):
        torch.testing.assert_close(found, plain_logprobs(plain, tokens), atol=1e-4, rtol=0)
    assert layout_of(model).packed and len(decoder_layers(model)) == 2 and longest_context(config) == 128
