"""What a policy saves, other libraries load: transformers, peft and vLLM give its log-probs."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from families import plain_logprobs
from transformers import AutoModelForCausalLM, AutoTokenizer

from shaping.hooks import AdapterSpec
from shaping.learning.policy import Policy, PolicyError
from shaping.models.lora.adapter_checkpoint import specs_of, stored_adapters
from shaping.models.lora.adapters import AdapterError
from shaping.models.lora.base_reference import BaseReference

TOKENS = [7, 8, 9, 40, 41, 42, 7, 8, 11, 12]
SPECS = [AdapterSpec("kept", "kept", 4, 8.0), AdapterSpec("own", "kept", 2, 3.0, ("q_proj", "down_proj"))]


@pytest.fixture
def base(make_policy: Callable[..., Policy], tmp_path: Path) -> Path:
    make_policy(hidden=64, heads=2, kv_heads=1).save(tmp_path / "base")
    return tmp_path / "base"


def trained(base: Path, dtype: torch.dtype = torch.float32, scale: float = 0.1, name: str = "") -> Policy:
    policy = Policy.load(base, dtype=dtype, adapters=SPECS, name=name)
    with torch.no_grad():
        for parameter in policy.adapters.parameters("kept"):
            parameter.normal_(0.0, scale, generator=torch.Generator().manual_seed(len(parameter)))
    policy.model.eval()
    return policy


def restored(base: Path, checkpoint: Path, dtype: torch.dtype = torch.float32) -> Policy:
    stored = stored_adapters(checkpoint)
    assert stored is not None
    policy = Policy.load(base, dtype=dtype, adapters=specs_of(checkpoint, stored))
    policy.model.eval()
    return policy


def test_a_whole_policy_is_a_plain_directory(base: Path, make_policy: Callable[..., Policy]) -> None:
    policy = make_policy(hidden=64, heads=2, kv_heads=1)
    plain = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()
    torch.testing.assert_close(plain_logprobs(plain, TOKENS), plain_logprobs(policy.model, TOKENS))
    tokenizer = AutoTokenizer.from_pretrained(base)
    assert tokenizer.chat_template == policy.tokenizer.chat_template
    assert (base / "generation_config.json").is_file() and list(base.glob("*.safetensors"))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_adapters_beside_their_base_are_the_trained_policy_bit_for_bit(
    base: Path, tmp_path: Path, dtype: torch.dtype
) -> None:
    policy = trained(base, dtype)
    policy.save(tmp_path / "out")
    written = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*")}
    assert {"checkpoint.json", "tokenizer.json", "chat_template.jinja", "generation_config.json"} <= written
    assert "adapters/own/adapter_model.safetensors" in written and "model.safetensors" not in written
    again = restored(base, tmp_path / "out", dtype)
    assert torch.equal(plain_logprobs(again.model, TOKENS), plain_logprobs(policy.model, TOKENS))


def test_peft_and_transformers_load_each_adapter_by_itself(base: Path, tmp_path: Path) -> None:
    from peft import PeftModel

    policy = trained(base)
    policy.save(tmp_path / "out")
    for spec in SPECS:
        with policy.adapters.using((spec.name,)):
            ours = plain_logprobs(policy.model, TOKENS)
        folder = tmp_path / "out" / "adapters" / spec.name
        plain = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
        by_peft = PeftModel.from_pretrained(plain, str(folder)).eval().base_model.model
        by_transformers = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        for loaded in (by_peft, by_transformers):
            torch.testing.assert_close(plain_logprobs(loaded, TOKENS), ours, atol=1e-5, rtol=1e-4)
        settings = json.loads((folder / "adapter_config.json").read_text())
        assert settings["base_model_name_or_path"] == str(base), "so that it is found without being named"


def test_a_merge_into_bfloat16_loses_a_small_update_and_is_refused(base: Path, tmp_path: Path) -> None:
    policy = trained(base, torch.bfloat16, scale=1e-3)
    lost = policy.adapters.merge().lost
    assert lost > 0.5
    before = plain_logprobs(policy.model, TOKENS)
    with pytest.raises(PolicyError, match=rf"merged in bfloat16, the model loses {lost:.2%} .*: export in float32"):
        policy.export(tmp_path / "half", torch.bfloat16)
    assert torch.equal(plain_logprobs(policy.model, TOKENS), before) and not (tmp_path / "half").exists()
    assert policy.export(tmp_path / "whole") < 1e-2


def test_an_update_below_the_rounding_of_float32_is_refused_with_another_remedy(base: Path, tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="load the adapters beside their base"):
        trained(base, scale=1e-5).export(tmp_path / "out")


def test_a_merged_export_is_a_plain_model_in_float32(base: Path, tmp_path: Path) -> None:
    for dtype in (torch.float32, torch.bfloat16):
        policy = trained(base, dtype)
        weights = policy.adapters.merge(dtype=torch.float32).weights
        ours = plain_logprobs(policy.model, TOKENS)
        lost = policy.export(tmp_path / f"{dtype}")
        assert 0 < lost < 1e-4
        plain = AutoModelForCausalLM.from_pretrained(tmp_path / f"{dtype}").eval()
        assert plain.dtype == torch.float32, "also without being asked for it"
        assert all(torch.equal(tensor, weights[name]) for name, tensor in plain.state_dict().items())
        if dtype == torch.float32:
            torch.testing.assert_close(plain_logprobs(plain, TOKENS), ours, atol=1e-4, rtol=1e-4)


def test_the_loss_of_a_merge_is_relative_to_the_update(base: Path) -> None:
    policy = trained(base)
    merge = policy.adapters.merge(dtype=torch.bfloat16)
    state = {n.replace(".base_layer.", "."): t for n, t in policy.model.state_dict().items() if ".lora_" not in n}
    exact = policy.adapters.merge().weights
    deltas = {name: exact[name].double() - state[name].double() for name in state}
    off = {n: merge.weights[n].double() - exact[n].double() for n, delta in deltas.items() if delta.any()}
    norms = [sum(float(t.square().sum()) for t in ts.values()) ** 0.5 for ts in (off, deltas)]
    assert merge.lost == pytest.approx(norms[0] / norms[1], rel=1e-3)
    with policy.adapters.using(()):
        assert policy.adapters.merge(dtype=torch.bfloat16).lost == 0.0, "nothing is merged, so nothing is lost"


def test_an_adapter_of_another_base_is_refused_also_one_of_equal_shapes(
    base: Path, tmp_path: Path, make_policy: Callable[..., Policy]
) -> None:
    trained(base, name="models/first").save(tmp_path / "out")
    other = make_policy(hidden=64, heads=2, kv_heads=1)
    with torch.no_grad():
        other.model.get_input_embeddings().weight[3, 3] += 1.0
    other.save(tmp_path / "other")
    with pytest.raises(AdapterError, match=r"was trained on models/first, .*other.* \(model.safetensors differs\)"):
        restored(tmp_path / "other", tmp_path / "out")


def test_a_policy_whose_base_is_trained_is_not_saved_with_other_adapters_in_it(base: Path, tmp_path: Path) -> None:
    policy = Policy.load(base, adapters=[AdapterSpec("vice", "quarantine")])
    with pytest.raises(PolicyError, match=r"'vice' is active .* call deploy"):
        policy.save(tmp_path / "out")
    policy.deploy()
    policy.save(tmp_path / "whole")
    assert (tmp_path / "whole" / "model.safetensors").is_file()


def test_a_checkpoint_of_adapters_is_no_model_directory(base: Path, tmp_path: Path) -> None:
    trained(base).save(tmp_path / "out")
    with pytest.raises(PolicyError, match=r"holds adapters of .*base, not a whole model"):
        Policy.load(tmp_path / "out")
    (tmp_path / "out" / "checkpoint.json").write_text("{}")
    with pytest.raises(AdapterError, match=r"checkpoint.json cannot be read"):
        stored_adapters(tmp_path / "out")


def test_a_reference_names_revision_and_hash(base: Path, tmp_path: Path) -> None:
    snapshot = tmp_path / "models--me--small" / "snapshots" / "0123abc"
    snapshot.parent.mkdir(parents=True)
    base.rename(snapshot)
    first = BaseReference.of(snapshot, "me/small")
    assert str(first) == "me/small@0123abc" and first.files.keys() >= {"model.safetensors", "config.json"}
    (snapshot / "generation_config.json").write_text("{}")
    second = BaseReference.of(snapshot, "me/small")
    assert second.hash != first.hash and first.differences(snapshot) == ["generation_config.json differs"]
    assert first.differences(snapshot, weights_only=True) == []


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed")
def test_vllm_samples_with_the_saved_adapters(base: Path, tmp_path: Path) -> None:
    """Both adapters as one, and the exported model: the log-probs are the policy's."""
    import asyncio

    import numpy as np
    from vllm_serving import TOLERANCE, complete, params, relearned

    from launch.distributed.weights import write_adapter
    from shaping.sampling.text.render import Renderer
    from shaping.sampling.vllm.config import VLLMConfig
    from shaping.sampling.vllm.engine import VLLMEngine

    policy = trained(base)
    renderer = Renderer(policy.tokenizer)
    write_adapter(policy.adapters.combined(("kept", "own")).tensors, SPECS, tmp_path / "one")
    small = {"dtype": "float32", "max_model_len": 256, "kv_cache_gib": 0.25}
    prompts = [renderer.open("", "turn 1 / 4 ."), renderer.open("", "you hold 1 unit .")]
    with_adapters = VLLMEngine(base, renderer, VLLMConfig(**small, enable_lora=True, max_lora_rank=8))
    try:
        asyncio.run(with_adapters.load_adapter(tmp_path / "one", 1))
        found = complete(with_adapters, prompts, params(2))
        for prompt, completion in zip(prompts, found, strict=True):
            np.testing.assert_allclose(completion.logprobs, relearned(policy, prompt, completion), atol=TOLERANCE)
    finally:
        with_adapters.shutdown()
    trained(base).export(tmp_path / "whole")
    exported = VLLMEngine(tmp_path / "whole", renderer, VLLMConfig(**small))
    try:
        for prompt, completion in zip(prompts, complete(exported, prompts, params(2)), strict=True):
            np.testing.assert_allclose(completion.logprobs, relearned(policy, prompt, completion), atol=TOLERANCE)
    finally:
        exported.shutdown()
