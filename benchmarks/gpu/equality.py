"""Log-probs, gradients and samples on the GPU beside those on the CPU, for every kind of attention."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from benchmarks.gpu.report import Check, Part, broken
from benchmarks.gpu.shapes import FAMILIES, Shape, model_of, sequences, tokenizer
from benchmarks.random_samples import random_sample
from shaping.learning.policy import Policy
from shaping.learning.samples.packing import pack
from shaping.learning.samples.sample import Sample
from shaping.sampling.embedded.transformers_engine import TransformersEngine
from shaping.sampling.engine import Completion, SamplingParams, Session
from shaping.sampling.text.render import Renderer

EXACT = 1e-4
"""Largest difference of log-probs, and largest relative difference of gradients, that float32 may have."""
ROUNDED = 0.05
"""Largest mean difference of log-probs that bfloat16 may have."""
REPLY = 24
"""Tokens of a completion."""
Read = tuple[Tensor, Tensor]
"""Log-probs of the loss tokens [m], and the gradient of all weights [parameters]; both on the CPU."""


def equality(device: torch.device, quick: bool) -> Part:
    """The part `equality`."""
    checks: list[Check] = []
    for shape in FAMILIES[:1] if quick else FAMILIES:
        try:
            checks += _of_shape(shape, device)
        except Exception as error:  # the other families are still looked at
            checks.append(broken(shape.name, error))
    return Part("equality", checks)


def _of_shape(shape: Shape, device: torch.device) -> list[Check]:
    plain = model_of(shape, torch.device("cpu"), torch.float32)
    samples = sequences(320, 6, 60)
    here, there = _read(copy.deepcopy(plain), samples, "cpu"), _read(copy.deepcopy(plain), samples, device)
    logprobs = float((here[0] - there[0]).abs().max())
    gradient = float((here[1] - there[1]).norm() / here[1].norm())
    half = _read(copy.deepcopy(plain).bfloat16(), samples, device)
    rounded = float((here[0] - half[0]).abs().mean())
    return [
        Check(f"{shape.name}: log-probs, float32", logprobs <= EXACT, f"differ by {logprobs:.1e}"),
        Check(f"{shape.name}: gradient, float32", gradient <= EXACT, f"differs by {gradient:.1e} of its norm"),
        Check(f"{shape.name}: log-probs, bfloat16", rounded <= ROUNDED, f"differ by {rounded:.1e} on average"),
        *_sampled(shape.name, plain, device),
    ]


def _read(model: PreTrainedModel, samples: Sequence[Sample], device: torch.device | str) -> Read:
    """Log-probs of the samples, and the gradient of their sum weighted by the advantages."""
    policy = Policy(model.to(device), tokenizer())
    logprobs: list[Tensor] = []
    for batch in pack(samples, 4096, policy.device, padded=policy.padded):
        found, _ = policy.logprobs(batch)
        (found * batch.advantage).sum().backward()
        logprobs.append(found.detach().float().cpu())
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    return torch.cat(logprobs), torch.cat([g.float().flatten().cpu() for g in gradients])


def _sampled(name: str, plain: PreTrainedModel, device: torch.device) -> list[Check]:
    """Two turns of sampling: the same tokens on both devices, with log-probs that the learner gives them, too."""
    runs = {
        "cpu": _played(copy.deepcopy(plain), "cpu"),
        "float32": _played(copy.deepcopy(plain), device),
        "bfloat16": _played(copy.deepcopy(plain).bfloat16(), device),
    }
    same = np.mean(
        [
            a == b
            for one, other in zip(runs["cpu"][0], runs["float32"][0], strict=True)
            for a, b in zip(one, other, strict=True)
        ]
    )
    exact, half = runs["float32"][1], runs["bfloat16"][1]
    graphs = runs["bfloat16"][2]
    recorded = Check(
        f"{name}: decoding by CUDA graphs",
        True if graphs else None,
        "used, in what follows" if graphs else "not possible for this model",
    )
    return [
        *([recorded] if torch.device(device).type == "cuda" else []),
        # Two numbers that differ by rounding may fall on two sides of a sampled token's limit, and then all is other.
        Check(f"{name}: sampled tokens", bool(same >= 0.9), f"{same:.0%} are the same"),
        Check(f"{name}: sampler and learner, float32", exact <= EXACT, f"log-probs differ by {exact:.1e} at most"),
        Check(f"{name}: sampler and learner, bfloat16", half <= ROUNDED, f"log-probs differ by {half:.1e} on average"),
    ]


def _played(model: PreTrainedModel, device: torch.device | str) -> tuple[list[list[int]], float, int]:
    """(tokens of both turns of every session, difference of the log-probs of sampler and learner, CUDA graphs)."""
    renderer = Renderer(tokenizer())
    policy = Policy(model.to(device), renderer.tokenizer)
    engine = TransformersEngine(policy.model, renderer, slots=8, context_length=512)
    prompts = [list(s.tokens[:n]) for s, n in zip(sequences(320, 8, 100, seed=1), range(20, 60, 5), strict=True)]

    async def turns(number: int, prompt: list[int]) -> list[Completion]:
        session = Session(number, None)  # type: ignore[arg-type]
        engine.open(session)
        first = await engine.complete(session, prompt, SamplingParams(REPLY, 1.0, number))
        longer = [*prompt, *first.tokens.tolist(), 7, 8, 9]
        second = await engine.complete(session, longer, SamplingParams(REPLY, 1.0, 100 + number))
        engine.close(session)
        return [first, second]

    async def all_turns() -> list[list[Completion]]:
        return await asyncio.gather(*(turns(n, prompt) for n, prompt in enumerate(prompts)))

    played = asyncio.run(all_turns())
    samples, sampled = [], []
    for prompt, (first, second) in zip(prompts, played, strict=True):
        between = [7, 8, 9]
        tokens = [*prompt, *first.tokens, *between, *second.tokens]
        mask = [0] * len(prompt) + [1] * len(first.tokens) + [0] * len(between) + [1] * len(second.tokens)
        samples.append(random_sample(np.array(tokens, np.int64), np.array(mask, bool), 320))
        sampled += [*first.logprobs, *second.logprobs]
    read: dict[int, Any] = {}
    with torch.no_grad():
        for batch in pack(samples, 4096, policy.device, padded=policy.padded):
            found, _ = policy.logprobs(batch)
            for number, sample in enumerate(batch.samples):
                read[id(sample)] = found[batch.sequence == number].float().cpu().numpy()
    apart = np.abs(np.concatenate([read[id(s)] for s in samples]) - np.array(sampled))
    exact = next(model.parameters()).dtype == torch.float32
    tokens = [[int(t) for c in pair for t in c.tokens] for pair in played]
    return tokens, float(apart.max() if exact else apart.mean()), engine.graphs.recorded
