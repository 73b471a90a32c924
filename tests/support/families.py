"""Tiny random models of many families, in the real classes of transformers."""

from __future__ import annotations

import asyncio
import contextlib
import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from shaping.hooks import ActivationEdit, AdapterSpec
from shaping.learning.policy import Policy
from shaping.learning.samples.packing import pack
from shaping.learning.samples.sample import Sample
from shaping.models.forward import layout_of
from shaping.models.lora.adapters import AdapterError
from shaping.sampling.embedded.cache import why_not_cached
from shaping.sampling.embedded.transformers_engine import TransformersEngine
from shaping.sampling.engine import Completion, SamplingParams, Session
from shaping.sampling.text.render import Renderer

COMMON: dict[str, Any] = {
    **{"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4},
    **{"num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 128, "sliding_window": 8},
    **{"n_embd": 32, "n_layer": 2, "n_head": 4, "n_inner": 48, "n_positions": 128, "rotary_dim": 4},
    **{"num_experts": 4, "num_local_experts": 4, "n_routed_experts": 4, "num_experts_per_tok": 2},
    **{"moe_intermediate_size": 16, "shared_expert_intermediate_size": 16},
    **{"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "tie_word_embeddings": False},
}
"""Settings of every family that has them by these names."""
_DELTA = {
    **{"linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 8, "linear_value_head_dim": 8},
    **{"layer_types": ["linear_attention", "full_attention"], "mlp_only_layers": [], "decoder_sparse_step": 1},
}
_MAMBA_2 = {"mamba_n_heads": 4, "mamba_d_head": 16, "mamba_d_state": 8, "mamba_n_groups": 1, "mamba_chunk_size": 8}
_MLA = {
    **{"q_lora_rank": 16, "kv_lora_rank": 8, "qk_nope_head_dim": 8, "qk_rope_head_dim": 4, "v_head_dim": 8},
    **{"n_group": 1, "topk_group": 1, "first_k_dense_replace": 1, "num_key_value_heads": 4, "head_dim": 4},
}
_SLIDES = {"layer_types": ["sliding_attention", "full_attention"]}
FAMILIES: dict[str, dict[str, Any]] = {
    **{"llama": {}, "mistral": {}, "qwen2": {}, "qwen3": {}, "phi3": {}, "smollm3": {}, "olmo2": {}, "glm4": {}},
    **{"gpt2": {}, "opt": {"ffn_dim": 48, "word_embed_proj_dim": 32}, "gpt_neox": {}, "starcoder2": {}},
    **{"gemma2": _SLIDES, "gemma3_text": _SLIDES, "olmo3": _SLIDES, "exaone4": _SLIDES},
    "granite": {"logits_scaling": 8.0, "attention_multiplier": 0.1, "residual_multiplier": 0.5},
    "cohere": {"logit_scale": 0.25},
    "cohere2": {"logit_scale": 0.25, **_SLIDES},
    "gpt_oss": _SLIDES,
    "llama4_text": {
        **{
            "attention_chunk_size": 8,
            "layer_types": ["chunked_attention", "full_attention"],
            "intermediate_size_mlp": 48,
        },
    },
    **{"hyperclovax": {"logits_scaling": 0.2}, "vaultgemma": _SLIDES, "mimo_v2_flash": {}, "minimax_m2": {}},
    "nanochat": {},
    **{"mixtral": {}, "qwen3_moe": {"mlp_only_layers": []}, "olmoe": {}, "granitemoe": {"logits_scaling": 8.0}},
    "deepseek_v3": _MLA,
    "minicpm3": {**_MLA, "dim_model_base": 8},
    "qwen3_next": _DELTA,
    "qwen3_5_text": _DELTA,
    "granitemoehybrid": {**_MAMBA_2, "layer_types": ["mamba", "attention"], "logits_scaling": 8.0},
    "bamba": {**_MAMBA_2, "attn_layer_indices": [1]},
    "falcon_h1": {**_MAMBA_2, "mamba_d_ssm": 64, "lm_head_multiplier": 0.3},
    "mamba": {"state_size": 8, "time_step_rank": 4},
    "mamba2": {"num_heads": 4, "head_dim": 16, "state_size": 8, "n_groups": 1, "chunk_size": 8},
    "lfm2": {"layer_types": ["conv", "full_attention"], "block_multiple_of": 16},
    "recurrent_gemma": {"lru_width": 32, "attention_window_size": 8, "block_types": ["recurrent", "attention"]},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1, "mamba_d_state": 8, "mamba_dt_rank": 4},
    "rwkv": {"attention_hidden_size": 32, "context_length": 128},
    "minimax": {"layer_types": ["linear_attention", "full_attention"], "block_size": 8},
    "olmo_hybrid": {**_DELTA},
    **{"falcon": {}, "bloom": {}, "mpt": {"d_model": 32, "n_heads": 4, "n_layers": 2, "max_seq_len": 128}},
    **{
        "stablelm": {},
        "nemotron": {"head_dim": 8, "num_key_value_heads": 2},
        "xglm": {"d_model": 32, "ffn_dim": 48, "num_layers": 2, "attention_heads": 4},
    },
    **{"gptj": {}, "codegen": {}, "diffllama": {}},
    "gpt_neo": {"num_layers": 2, "num_heads": 4, "attention_types": [[["global", "local"], 1]], "window_size": 8},
}
"""Model type -> settings that make it small, and that its special features take part in."""


def tiny(family: str, *, vocabulary: int = 320, **settings: Any) -> PreTrainedModel:
    """A random model of a family, in float32; equal settings give equal weights. Torch's generator is left alone."""
    kind = CONFIG_MAPPING[family]
    known = kind()
    common = {name: value for name, value in COMMON.items() if getattr(known, name, None) is not None}
    if family == "falcon":
        del common["head_dim"]  # a property there
    config = kind(**{**common, "vocab_size": vocabulary, **FAMILIES[family], **settings})
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model: PreTrainedModel = AutoModelForCausalLM.from_config(config)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if parameter.dim() >= 2:  # peaked distributions, in which every feature shows
                    parameter.normal_(0.0, 0.25)
                elif "sinks" in name:
                    parameter.normal_()
    return model.eval()


SEQUENCES = [list(range(5, 12)), list(range(20, 53))]
PROMPTS = [[7, 8, 9, 40, 41], [11, 12, 13, 14, 90, 91, 92, 93, 50, 60, 70, 80]]


@dataclass(frozen=True, slots=True)
class Measured:
    """What training and sampling do with a family, and how far they are from its own forward pass in log-probs."""

    layout: str
    """`packed`, or `padded` (one sequence per row)."""
    train: float
    """Largest difference in training."""
    reads: str
    """`cache`, or `whole` if every sequence is read again for each token."""
    sample: float
    """Largest difference in sampling."""
    lora: float | None
    """Largest difference with a random adapter; None if adapters are refused or fail."""
    steer: float | None
    """Largest difference in training and sampling with a direction added to a layer; None if that is refused."""


def measure(family: str, tokenizer: PreTrainedTokenizerBase) -> Measured:
    """Train and sample a tiny model of a family beside transformers' own forward pass with eager attention."""
    model = tiny(family)
    plain, policy = copy.deepcopy(model), Policy(model, tokenizer)
    steered = _steered(policy, plain)  # before adapters are added
    sampled = [
        torch.from_numpy(completion.logprobs)
        - plain_logprobs(plain, [*prompt, *completion.tokens.tolist()])[len(prompt) - 1 :]
        for prompt, completion in zip(PROMPTS, completions(policy), strict=True)
    ]
    return Measured(
        "packed" if layout_of(model).packed else "padded",
        _apart(policy, plain),
        "whole" if why_not_cached(model) else "cache",
        max(float(difference.abs().max()) for difference in sampled),
        _adapted(policy),
        steered,
    )


def steering(model: PreTrainedModel) -> ActivationEdit:
    """A random direction for the first layer of a tiny model."""
    width = model.get_input_embeddings().weight.shape[1]
    return ActivationEdit(0, "add", np.random.default_rng(4).normal(size=width).astype(np.float32), 0.5)


def _steered(policy: Policy, plain: PreTrainedModel) -> float | None:
    edits = (steering(policy.model),)
    try:
        found = completions(policy, edits)
        pairs = list(zip(SEQUENCES, packed_logprobs(policy, SEQUENCES, edits), strict=True))
    except ValueError:
        return None
    added = torch.tensor(edits[0].direction) * edits[0].scale
    first = next(
        layers[0]
        for layers in plain.modules()
        if isinstance(layers, torch.nn.ModuleList) and len(layers) == plain.config.num_hidden_layers
    )

    def hook(_module: Any, _arguments: Any, output: Any) -> Any:
        return (output[0] + added, *output[1:]) if isinstance(output, tuple) else output + added

    unedited = plain_logprobs(plain, SEQUENCES[1])
    handle = first.register_forward_hook(hook)
    try:
        assert float((plain_logprobs(plain, SEQUENCES[1]) - unedited).abs().max()) > 1e-2, "the edit has an effect"
        sampled = [
            torch.from_numpy(completion.logprobs)
            - plain_logprobs(plain, [*prompt, *completion.tokens.tolist()])[len(prompt) - 1 :]
            for prompt, completion in zip(PROMPTS, found, strict=True)
        ]
        trained = [logprobs - plain_logprobs(plain, tokens) for tokens, logprobs in pairs]
    finally:
        handle.remove()
    return max(float(difference.abs().max()) for difference in [*sampled, *trained])


def _adapted(policy: Policy) -> float | None:
    with contextlib.suppress(AdapterError, ValueError, AttributeError):  # see NO_LORA in the test
        adapted = Policy(policy.model, policy.tokenizer, adapters=[AdapterSpec("kept", "kept", rank=2)])
        with torch.no_grad():
            for parameter in adapted.adapters.parameters("kept"):
                parameter.normal_(0.0, 0.1, generator=torch.Generator().manual_seed(3))
        return _apart(adapted, copy.deepcopy(policy.model))
    return None


def _apart(policy: Policy, plain: PreTrainedModel) -> float:
    pairs = zip(SEQUENCES, packed_logprobs(policy, SEQUENCES), strict=True)
    return max(float((found - plain_logprobs(plain, tokens)).abs().max()) for tokens, found in pairs)


@torch.no_grad()
def plain_logprobs(model: PreTrainedModel, tokens: list[int]) -> Tensor:
    """Log-probs of tokens 1, 2, ... in the model's own forward pass with its eager attention."""
    model.set_attn_implementation("eager")
    logits = model(torch.tensor([tokens]), use_cache=False).logits[0].float()
    return logits.log_softmax(-1)[:-1].gather(1, torch.tensor(tokens)[1:, None])[:, 0]


def sample_of(tokens: list[int]) -> Sample:
    """A sequence to train on, all of it but the first token."""
    zeros = np.zeros(len(tokens), np.float32)
    nothing = np.zeros((0, 2), np.int64)
    return Sample(np.array(tokens), np.arange(len(tokens)) > 0, zeros, zeros + 1, zeros + 1, nothing, on_policy=False)


def packed_logprobs(policy: Policy, sequences: list[list[int]], edits: Sequence[ActivationEdit] = ()) -> list[Tensor]:
    """The learner's log-probs of sequences of different lengths, from one batch."""
    (batch,) = pack([sample_of(tokens) for tokens in sequences], 512)
    with torch.no_grad():
        found, _ = policy.logprobs(batch, edits)
    by_length = {len(s): found[batch.sequence == n] for n, s in enumerate(batch.samples)}
    return [by_length[len(tokens)] for tokens in sequences]


def completions(policy: Policy, edits: Sequence[ActivationEdit] = ()) -> list[Completion]:
    """Completions of `PROMPTS`, played together."""
    engine = TransformersEngine(policy.model, Renderer(policy.tokenizer), slots=2, context_length=64)
    engine.set_edits(edits)

    async def run() -> list[Completion]:
        sessions = [Session(n, None) for n in range(len(PROMPTS))]  # type: ignore[arg-type]
        for session in sessions:
            engine.open(session)
        params = [SamplingParams(max_tokens=14, seed=n) for n in range(len(PROMPTS))]
        return list(await asyncio.gather(*(map(engine.complete, sessions, PROMPTS, params))))

    return asyncio.run(run())
