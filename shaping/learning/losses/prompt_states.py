"""How far apart a policy reads the same prompt with and without a system prompt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from shaping.hooks import Capture, InterventionError
from shaping.learning.captures import Recorder
from shaping.learning.policy import Policy
from shaping.learning.samples.packing import pack
from shaping.learning.samples.sample import Sample
from shaping.models.shared_prefix import common_prefix
from shaping.sampling.text.render import Renderer

_NAME = "prompt"


def distance(
    policy: Policy,
    samples: Sequence[Sample],
    wrapper: Callable[[str], str],
    layers: tuple[int, ...] | Literal["all"],
    *,
    at_start: bool = False,
) -> Tensor:
    """Mean of |h(wrapped) - sg h(clean)|^2 / |sg h(clean)|^2 over the common suffix of prompts, times the loss tokens.

    The factor makes it a mean once the learner has divided by the loss tokens of the step. Always two passes, so that
    ranks that share a sharded policy run equally many.

    Args:
        policy: with the adapters of the training phase active.
        samples: of a micro-batch; prompts are those of `Sample.origin`.
        wrapper: from an observation to its system prompt.
        layers: layers from 0; negative ones from the end.
        at_start: read the clean prompt without the trained adapters.
    """
    loss_tokens = sum(len(sample.loss_positions) for sample in samples)
    clean, wrapped = _prompts(Renderer(policy.tokenizer), samples, wrapper)
    with torch.no_grad(), _adapters(policy, at_start):
        target = _suffix_states(policy, clean, layers)
    states = _suffix_states(policy, wrapped, layers)
    apart = (states - target).float().square().sum(-1) / target.float().square().sum(-1).clamp_min(1e-12)
    if all(sample.origin is None or not sample.origin.head for sample in samples):
        return apart.sum() * 0.0  # no sample begins with its prompt: the passes were for the other ranks' sake
    return apart.mean() * loss_tokens


def _adapters(policy: Policy, at_start: bool):  # type: ignore[no-untyped-def]
    """The adapters with which targets are read."""
    if not at_start:
        return nullcontext()
    if not policy.adapters.names("kept"):
        raise InterventionError(
            "targets of the policy at its start need adapters, without which that policy is nowhere kept: set "
            "learner.lora, or targets: current"
        )
    frozen = [name for name in policy.adapters.names("frozen") if name in policy.adapters.active]
    return policy.adapters.using(frozen)


def _prompts(
    renderer: Renderer, samples: Sequence[Sample], wrapper: Callable[[str], str]
) -> tuple[list[Sample], list[Sample]]:
    """Every prompt once, clean and wrapped; masks are on the tokens of their common suffix."""
    clean: dict[bytes, Sample] = {}
    wrapped: dict[bytes, Sample] = {}
    for sample in samples:
        if sample.origin is None or not sample.origin.head:
            continue
        own = sample.tokens[: sample.origin.head]
        if (key := own.tobytes()) in clean:
            continue
        observation = sample.origin.observation
        other = np.array(renderer.open(wrapper(observation), observation), np.int64)
        common = common_prefix(own[:0:-1], other[:0:-1])  # of their ends, without the first token of each
        clean[key], wrapped[key] = _masked(own, common), _masked(other, common)
    if not clean:
        one = samples[0].tokens[:2]
        return [_masked(one, 1)], [_masked(one, 1)]
    return list(clean.values()), list(wrapped.values())


def _masked(tokens: np.ndarray, common: int) -> Sample:
    zeros = np.zeros(len(tokens), np.float32)
    mask = np.arange(len(tokens)) >= len(tokens) - common
    return Sample(tokens, mask, zeros, zeros, zeros, np.zeros((0, 2), np.int64))


def _suffix_states(policy: Policy, prompts: Sequence[Sample], layers: tuple[int, ...] | Literal["all"]) -> Tensor:
    """States [tokens, layers, hidden] of the masked tokens, in the order of the prompts. One pass."""
    recorder = Recorder(policy.model, [Capture(_NAME, layers)])
    (batch,) = pack(prompts, sum(map(len, prompts)) * len(prompts), policy.device, padded=policy.padded)
    found = recorder.captured(batch, policy.states(batch, recorder.wanted(batch), policy.edits))[_NAME]
    place = {id(sample): number for number, sample in enumerate(prompts)}
    number = np.array([place[id(batch.samples[n])] for n in found.sample], np.int64)
    order = np.lexsort((found.position, number))
    return found.states[torch.from_numpy(order).to(found.states.device)]
