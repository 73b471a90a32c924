"""A Gemma 3 of real shape with random weights: loading, turn ends, packing, saving, and both engines.

It has sliding windows of 512 tokens, tied embeddings of 262,144 tokens, and a template without a system role.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from templates import GEMMA_2, tokenizer_of
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, Gemma3TextConfig, PreTrainedTokenizerFast
from vllm_serving import complete, params, relearned, tokens_of

from shaping.learning.policy import Policy
from shaping.sampling.embedded.transformers_engine import TransformersEngine
from shaping.sampling.text.render import Renderer

pytestmark = pytest.mark.slow

VOCABULARY, WINDOW = 262_144, 512
TOLERANCE = 2e-3
"""Of log-probs in float32: engines sum in another order."""


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("gemma")
    tokenizer = large(tokenizer_of("always", GEMMA_2))
    ids = {name: tokenizer.convert_tokens_to_ids(token) for name, token in (("pad", "<pad>"), ("bos", "<s>"))}
    config = Gemma3TextConfig(
        vocab_size=VOCABULARY,
        hidden_size=640,
        intermediate_size=2048,
        num_hidden_layers=18,
        num_attention_heads=4,
        num_key_value_heads=1,
        head_dim=256,
        query_pre_attn_scalar=256,
        sliding_window=WINDOW,
        max_position_embeddings=2048,
        layer_types=(["sliding_attention"] * 5 + ["full_attention"]) * 3,
        tie_word_embeddings=True,
        pad_token_id=ids["pad"],
        bos_token_id=ids["bos"],
        eos_token_id=tokenizer.eos_token_id,
        initializer_range=0.04,
    )
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


def large(tokenizer: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
    """The tokenizer with as many tokens as the model: what it samples has a text."""
    document = json.loads(tokenizer.backend_tokenizer.to_str())
    vocabulary = document["model"]["vocab"]
    first = max(*vocabulary.values(), *(token["id"] for token in document["added_tokens"])) + 1
    vocabulary |= {f"▁w{i}": i for i in range(first, VOCABULARY)}
    grown = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(document)), bos_token="<s>", eos_token="</s>", pad_token="<pad>"
    )
    grown.chat_template = tokenizer.chat_template
    return grown


@pytest.fixture(scope="module")
def policy(directory: Path) -> Policy:
    """It loads: packed sequences that are longer than a window are those of the plain model."""
    return Policy.load(directory, dtype=torch.float32, temperature=1.0)


def prompts(renderer: Renderer) -> list[list[int]]:
    """One short, one that ends within the window, and one beyond it."""
    short = renderer.open("be honest", "turn 1 / 4 .")
    long = [renderer.open("", " ".join(["job 1 needs 4 ."] * count)) for count in (110, 150)]
    reach = [ids[: WINDOW - 10] if n == 0 else ids for n, ids in enumerate(long)]
    assert len(short) < 60 and len(reach[0]) == WINDOW - 10 and len(reach[1]) > WINDOW + 50
    return [short, *reach]


def test_a_system_prompt_is_folded_and_turns_end_with_their_own_token(policy: Policy) -> None:
    renderer = Renderer(policy.tokenizer)
    end = policy.tokenizer.convert_tokens_to_ids("<end_of_turn>")
    assert renderer.eos == end and renderer.ends == {end, policy.tokenizer.eos_token_id}
    folded = renderer.text(renderer.open("be honest", "turn 1 / 4 ."))
    assert folded.index("be honest") < folded.index("turn 1") and "start_of_turn" not in folded.split("honest")[1]
    assert any("system" in note for note in renderer.template.notes)


def test_the_engine_samples_what_the_learner_computes_beyond_the_window(policy: Policy) -> None:
    renderer = Renderer(policy.tokenizer)
    engine = TransformersEngine(policy.model, renderer, slots=4, context_length=1024)
    asked = prompts(renderer)
    found = complete(engine, asked, params(3, tokens=24))
    for prompt, completion in zip(asked, found, strict=True):
        np.testing.assert_allclose(completion.logprobs, relearned(policy, prompt, completion), atol=TOLERANCE)
    assert tokens_of(found) == tokens_of(complete(engine, asked, params(3, tokens=24)))


def test_a_saved_model_is_the_same_in_plain_transformers(policy: Policy, tmp_path: Path) -> None:
    policy.save(tmp_path)
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        assert not [name for name in file.keys() if "lm_head" in name], "tied weights are saved once"  # noqa: SIM118
    plain = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    asked = prompts(Renderer(policy.tokenizer))[2]
    with torch.no_grad():
        logprobs = plain(torch.tensor([asked])).logits[0].log_softmax(-1)
    ours = relearned_all(policy, asked)
    expected = logprobs[:-1].gather(1, torch.tensor(asked)[1:, None])[:, 0].numpy()
    np.testing.assert_allclose(ours, expected, atol=TOLERANCE)


def relearned_all(policy: Policy, tokens: list[int]) -> np.ndarray:
    """Log-probs of all tokens but the first."""
    from shaping.sampling.engine import Completion

    rest = np.array(tokens[1:], np.int32)
    empty = np.zeros(len(rest), np.float32)
    completion = Completion(rest, empty, np.zeros(len(rest), np.int32), finished=False, masked_tokens=())
    return relearned(policy, tokens[:1], completion)


@pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed")
def test_vllm_samples_what_the_learner_computes(policy: Policy, directory: Path) -> None:
    from shaping.sampling.vllm.config import VLLMConfig
    from shaping.sampling.vllm.engine import VLLMEngine

    renderer = Renderer(policy.tokenizer)
    config = VLLMConfig(dtype="float32", max_model_len=1024, max_num_seqs=4, kv_cache_gib=0.5)
    engine = VLLMEngine(directory, renderer, config)
    try:
        asked = prompts(renderer)
        found = complete(engine, asked, params(3, tokens=24))
        for prompt, completion in zip(asked, found, strict=True):
            np.testing.assert_allclose(completion.logprobs, relearned(policy, prompt, completion), atol=TOLERANCE)
        asyncio.run(engine.load_weights(policy.model.state_dict(), 1))
        again = complete(engine, asked, params(3, tokens=24))
        assert tokens_of(found) == tokens_of(again) and {int(v) for c in again for v in c.policy_versions} == {1}
    finally:
        engine.shutdown()
