"""The distance between what a policy says under a prompt and without it (context distillation)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from envs.core import draw
from shaping.hooks import InterventionError
from shaping.learning.losses.distributions import logprobs_at, top_tokens
from shaping.learning.policy import Policy
from shaping.learning.samples.packing import Batch, pack
from shaping.learning.samples.sample import Sample
from shaping.sampling.text.render import Renderer


def distilled(
    policy: Policy, samples: Sequence[Sample], prompted: Sequence[Sample], top: int, teacher: Policy | None = None
) -> torch.Tensor:
    """Sum over the loss tokens of KL(p(. | C) || p(.)), by the teacher's `top` likeliest tokens and all others as one.

    Args:
        policy: the student.
        samples: the samples without a prompt, at least one with a loss token.
        prompted: the same behind a prompt, in the same order.
        top: tokens that are told apart.
        teacher: a policy with the same vocabulary; None: the student itself, as it is.
    """
    with torch.no_grad():
        taught = _one_batch(policy, prompted)
        ids, told = top_tokens(teacher or policy, taught, top)
    plain = _one_batch(policy, samples)
    at = _places(taught.samples, plain.samples, samples, prompted)
    return distance(told[at], logprobs_at(policy, plain, ids[at]))


def prompted(policy: Policy, sample: Sample, prompts: Sequence[str], renderers: dict[int, Renderer]) -> Sample:
    """The sample behind one of the prompts, which depends on its tokens alone. `renderers` are kept by tokenizer."""
    renderer = renderers.setdefault(id(policy.tokenizer), Renderer(policy.tokenizer))
    number = int(draw(int(sample.tokens.sum()), "distilled", len(sample)) * len(prompts))
    plain, under = (renderer.open(system, "x") for system in ("", prompts[number]))
    same = 0
    while same < min(len(plain), len(under)) and plain[-1 - same] == under[-1 - same]:
        same += 1
    before, head = plain[: len(plain) - same], np.array(under[: len(under) - same], np.int64)
    if sample.tokens[: len(before)].tolist() != before:
        raise InterventionError(
            "ContextDistillation: the episodes do not begin as this model's chat template begins without a system "
            "prompt, so that a prompt cannot be put there: leave rollout.chat_template_kwargs out"
        )
    cut = len(before)
    return replace(
        sample,
        tokens=np.concatenate([head, sample.tokens[cut:]]),
        masked_tokens=np.zeros((0, 2), np.int64),
        forced=None,
        **{name: _behind(getattr(sample, name), len(head), cut) for name in _STREAMS},
    )


_STREAMS = ("mask", "old_logprobs", "advantage", "weight")


def _behind(stream: Any, head: int, cut: int) -> Any:
    return np.concatenate([np.zeros(head, stream.dtype), stream[cut:]])


def _one_batch(policy: Policy, samples: Sequence[Sample]) -> Batch:
    budget = len(samples) * max(map(len, samples))
    (batch,) = pack(samples, budget, policy.device, padded=policy.padded)
    return batch


def _places(
    taught: Sequence[Sample], plain: Sequence[Sample], samples: Sequence[Sample], prompted: Sequence[Sample]
) -> torch.Tensor:
    """For each loss token of the batch `plain` its index among those of `taught`, whose samples may lie otherwise."""
    number: Mapping[int, int] = {id(sample): n for n, sample in enumerate(prompted)}
    starts, begin = {}, 0
    for sample in taught:
        starts[number[id(sample)]] = begin
        begin += len(sample.loss_positions)
    order = [next(n for n, own in enumerate(samples) if own is sample) for sample in plain]
    parts = [torch.arange(starts[n], starts[n] + len(samples[n].loss_positions)) for n in order]
    return torch.cat(parts) if parts else torch.zeros(0, dtype=torch.int64)


def distance(teacher: torch.Tensor, student: torch.Tensor) -> torch.Tensor:
    """Sum over tokens of KL(teacher || student) from log-probs [m, k] of the same tokens, all others in one bucket."""
    shown = (teacher.exp() * (teacher - student)).sum()
    rest, other = (torch.log1p(-each.exp().sum(-1).clamp(max=1 - 1e-6)) for each in (teacher, student))
    return shown + (rest.exp() * (rest - other)).sum()
