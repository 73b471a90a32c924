"""Random models of real shapes, and the sequences that they are given."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from benchmarks.random_samples import multi_turn
from shaping.learning.samples.sample import Sample
from shaping.organisms.config import OrganismConfig
from shaping.organisms.organism import build


@dataclass(frozen=True, slots=True)
class Shape:
    """The shape of a model."""

    name: str
    """Its name in the tables."""
    family: str
    """`model_type` of transformers."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Settings of its config."""
    lora: int = 0
    """Rank of the adapter that is trained; 0: all weights are."""
    budget: int = 16384
    """Tokens of a micro-batch."""


def _sizes(hidden: int, layers: int, heads: int, kv_heads: int, inner: int, words: int) -> dict[str, Any]:
    return {
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "intermediate_size": inner,
        "vocab_size": words,
        "max_position_embeddings": 32768,
        "tie_word_embeddings": True,
    }


SMOLLM2_135M = Shape("135M", "llama", _sizes(576, 30, 9, 3, 1536, 49152))
QWEN3_600M = Shape("0.6B", "qwen3", {**_sizes(1024, 28, 16, 8, 3072, 151936), "head_dim": 128})
QWEN3_4B = Shape("4B, LoRA", "qwen3", {**_sizes(2560, 36, 32, 8, 9728, 151936), "head_dim": 128}, lora=16, budget=4096)

_TINY = {**_sizes(64, 2, 4, 2, 128, 320), "head_dim": 16}
TINY = Shape("tiny", "llama", _TINY)
FAMILIES = (
    TINY,
    Shape(
        "Qwen2, windows",
        "qwen2",
        {**_sizes(64, 2, 4, 2, 128, 320), "use_sliding_window": True, "sliding_window": 24, "max_window_layers": 1},
    ),
    Shape("Gemma 2, soft caps and windows", "gemma2", {**_TINY, "query_pre_attn_scalar": 16, "sliding_window": 24}),
    Shape(
        "gpt-oss, sinks and experts",
        "gpt_oss",
        {**_TINY, "num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": 24},
    ),
)
"""Tiny models, one for each kind of attention."""


def model_of(shape: Shape, device: torch.device, dtype: torch.dtype, seed: int = 0) -> PreTrainedModel:
    """A random model, made on the device."""
    config = AutoConfig.for_model(
        shape.family, **{"pad_token_id": 0, "eos_token_id": 0, "bos_token_id": 0} | shape.settings
    )
    torch.manual_seed(seed)
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    return model.eval()


def tokenizer() -> PreTrainedTokenizerBase:
    """A small tokenizer: only its template and its end tokens are used."""
    text = ["item 1 needs 2 .", "ACTION: work 1"] * 3
    return build(OrganismConfig(hidden=32, layers=1, heads=4, kv_heads=2, vocabulary=320), text).tokenizer


def sequences(vocabulary: int, count: int, tokens: int, *, prompt: int = 30, seed: int = 0) -> list[Sample]:
    """Multi-turn sequences of random tokens, half to one and a half times `tokens` long.

    After the prompt, turns of 12 sampled and 12 observed tokens follow each other.
    """
    rng = np.random.default_rng(seed)
    lengths = rng.integers(tokens // 2, tokens + tokens // 2 + 1, count)
    return [multi_turn(rng, vocabulary, int(n), prompt) for n in lengths]


def synchronize(device: torch.device) -> None:
    """Wait until the device has done what it was told."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def measured(run: Callable[[], object], device: torch.device, repetitions: int) -> tuple[float, float]:
    """(median seconds, peak GiB of the device) of a call, after one that is not counted. No GiB on a CPU."""
    run()
    synchronize(device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    seconds = []
    for _ in range(repetitions):
        begun = time.perf_counter()
        run()
        synchronize(device)
        seconds.append(time.perf_counter() - begun)
    peak = torch.cuda.max_memory_allocated(device) / 2**30 if device.type == "cuda" else 0.0
    return median(seconds), peak


def release(device: torch.device) -> None:
    """Give back the memory of what is gone."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def total(samples: Sequence[Sample]) -> int:
    """Tokens of all samples."""
    return sum(map(len, samples))
