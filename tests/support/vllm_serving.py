"""What the tests of engines share: completions in bulk, what the learner says about them, adapters."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from play_worlds import Counting

from shaping.hooks import ActivationEdit, AdapterSpec
from shaping.learning.policy import Policy
from shaping.learning.samples.packing import pack
from shaping.learning.samples.sample import Sample
from shaping.sampling.engine import Completion, Engine, SamplingParams, Session

TOLERANCE = 2e-3
"""Of vLLM's log-probs in float32: it multiplies and sums in another order."""
PROMPTS = ["turn 1 / 4 .", "you hold 1 unit . job 1 needs 4 . job 2 needs 7 .", "é😀", "did you use grab ?", "wait"]
ADAPTER = AdapterSpec("kept", "kept", rank=4, alpha=32.0)


def params(count: int, tokens: int = 12, seed: int = 100, **others: Any) -> list[SamplingParams]:
    """One per request, each with a seed of its own."""
    return [SamplingParams(tokens, seed=seed + n, **others) for n in range(count)]


def save_adapter(make: Callable[..., Policy], seed: int, directory: Path) -> Policy:
    """A policy with a LoRA adapter that changes much, and the adapter in PEFT's layout."""
    plain = make()
    adapted = Policy(plain.model, plain.tokenizer, adapters=[ADAPTER])
    torch.manual_seed(seed)
    with torch.no_grad():
        for tensor in adapted.adapters.parameters("kept"):
            tensor.normal_(std=0.3)
    adapted.adapters.save("kept", directory)
    adapted.model.eval()
    return adapted


async def completions(
    engine: Engine, prompts: Sequence[Sequence[int]], params: Sequence[SamplingParams]
) -> list[Completion]:
    """One completion per prompt, all at once, each in a session of its own."""
    sessions = [Session(number, Counting()) for number in range(len(prompts))]
    for session in sessions:
        engine.open(session)
    try:
        return await asyncio.gather(
            *(engine.complete(s, p, q) for s, p, q in zip(sessions, prompts, params, strict=True))
        )
    finally:
        for session in sessions:
            engine.close(session)


def complete(engine: Engine, prompts: Sequence[Sequence[int]], params: Sequence[SamplingParams]) -> list[Completion]:
    return asyncio.run(completions(engine, prompts, params))


def relearned(
    policy: Policy, prompt: Sequence[int], completion: Completion, edits: Sequence[ActivationEdit] = ()
) -> np.ndarray:
    """The learner's log-probs of a completion."""
    tokens = np.array([*prompt, *completion.tokens], np.int64)
    mask = np.arange(len(tokens)) >= len(prompt)
    pairs = [(len(prompt) + offset, i) for offset, ids in completion.masked_tokens for i in ids]
    zeros = np.zeros(len(tokens), np.float32)
    sample = Sample(tokens, mask, zeros, zeros, zeros, np.array(pairs, np.int64).reshape(-1, 2))
    (batch,) = pack([sample], 10_000)
    with torch.no_grad():
        logprobs, _ = policy.logprobs(batch, edits)
    return logprobs.numpy()


def tokens_of(found: Sequence[Completion]) -> list[list[int]]:
    return [c.tokens.tolist() for c in found]
