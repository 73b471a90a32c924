"""What the tests of the vLLM engine share: completions in bulk, and what the learner says about them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import numpy as np
import torch
from play_worlds import Counting

from shaping.intervention import ActivationEdit
from shaping.learning.packing import pack
from shaping.learning.policy import Policy
from shaping.learning.sample import Sample
from shaping.sampling.engine import Completion, Engine, SamplingParams, Session


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
    pairs = [(len(prompt) + offset, i) for offset, ids in completion.forbidden for i in ids]
    zeros = np.zeros(len(tokens), np.float32)
    sample = Sample(tokens, mask, zeros, zeros, zeros, np.array(pairs, np.int64).reshape(-1, 2))
    (batch,) = pack([sample], 10_000)
    with torch.no_grad():
        logprobs, _ = policy.logprobs(batch, edits)
    return logprobs.numpy()


def tokens_of(found: Sequence[Completion]) -> list[list[int]]:
    return [c.tokens.tolist() for c in found]
