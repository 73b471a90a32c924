"""Token-budget packing: samples laid end to end, no padding, gates and ratio modes kept apart."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from shaping.hooks import RatioMode
from shaping.learning.sample import Sample
from shaping.models.attention import Packed


@dataclass(frozen=True, slots=True)
class Batch:
    """One packed micro-batch of n tokens, m of which are in the loss.

    `ids`, `positions`: [1, n]. `rows` [m]: where the hidden state that predicts each loss token is. `targets` [m] and
    the streams `old`, `advantage`, `weight` [m]. `masked_tokens` [k, 2]: (index into the m loss tokens, token id).
    `sequence` [m]: which of `samples` each loss token is of. `imitation` [m], or None where no sample imitates.
    `critic`: (old values [m, heads], targets [m, heads], mask [m]), or None.
    """

    samples: tuple[Sample, ...]
    ids: Tensor
    positions: Tensor
    plan: Packed
    rows: Tensor
    targets: Tensor
    old: Tensor
    advantage: Tensor
    weight: Tensor
    masked_tokens: Tensor
    sequence: Tensor
    on_policy: Tensor
    ratio: RatioMode
    kept_gate: float
    quarantine_gate: float
    policy: bool
    kl: bool
    has_credit: bool
    """Is any advantage of the batch other than zero, or is there something else to learn from it?"""
    imitation: Tensor | None
    critic: tuple[Tensor, Tensor, Tensor] | None

    @property
    def loss_tokens(self) -> int:
        return len(self.targets)


def assign(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """First-fit decreasing: indices of the samples in each micro-batch.

    Raises ValueError if one sample alone exceeds the budget.
    """
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    if order and lengths[order[0]] > budget:
        raise ValueError(
            f"an episode of {lengths[order[0]]} tokens exceeds learner.token_budget={budget}: raise the budget or "
            "shorten the world's horizon"
        )
    bins: list[list[int]] = []
    room: list[int] = []
    for i in order:
        for b, left in enumerate(room):
            if lengths[i] <= left:
                bins[b].append(i)
                room[b] -= lengths[i]
                break
        else:
            bins.append([i])
            room.append(budget - lengths[i])
    return bins


def spread(lengths: Sequence[int], budget: int, ranks: int) -> list[list[int]]:
    """As `assign`, but as many micro-batches for every rank, of about equal length, where there are enough samples.

    Longest first, each into the shortest one: full micro-batches and a small last one would leave ranks waiting.
    """
    bins = assign(lengths, budget)
    if ranks == 1:
        return bins
    count = -(-len(bins) // ranks) * ranks
    while True:
        loads, members = [0] * count, [list[int]() for _ in range(count)]
        for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
            shortest = loads.index(min(loads))
            members[shortest].append(i)
            loads[shortest] += lengths[i]
        if max(loads, default=0) <= budget:
            return [found for found in members if found]
        count += ranks


def pack(samples: Sequence[Sample], budget: int, device: torch.device | str = "cpu", *, ranks: int = 1) -> list[Batch]:
    """Micro-batches of at most `budget` tokens, each of one ratio mode and one gate value, with or without credit.

    With several `ranks` there are, of each kind, about equally large ones for each of them.

    Groups without reward variance have no credit, hence no policy gradient; kept apart, they need no backward pass.

    Homogeneous micro-batches make it exact to gate *parameter* gradients: a weight gradient is already summed over
    the batch, so per-sample gates cannot be applied afterwards (Cloud et al., arXiv:2410.04332, gate activations
    instead, which also changes the gradients of earlier layers).
    """
    kinds: dict[tuple[RatioMode, float, float, bool, bool, bool, bool], list[Sample]] = defaultdict(list)
    for s in samples:
        kinds[s.ratio, s.kept_gate, s.quarantine_gate, _has_credit(s), s.policy, s.kl, s.critic is None].append(s)
    return [
        _lay_out([group[i] for i in members], device)
        for _, group in sorted(kinds.items())
        for members in spread([len(s) for s in group], budget, ranks)
    ]


def _lay_out(samples: list[Sample], device: torch.device | str) -> Batch:
    starts = np.concatenate([[0], np.cumsum([len(s) for s in samples])])
    mask = np.concatenate([s.mask for s in samples])
    mask[starts[:-1]] = False  # nothing predicts the first token of a sequence
    targets = np.flatnonzero(mask)
    order = np.cumsum(mask) - 1  # token position -> index among the loss tokens
    masked_tokens = [
        np.stack([order[s.masked_tokens[:, 0] + a], s.masked_tokens[:, 1]], axis=1)
        for s, a in zip(samples, starts, strict=False)
        if len(s.masked_tokens)
    ]

    def loss_tokens(arrays: list[NDArray[Any]]) -> Tensor:
        return torch.from_numpy(np.concatenate(arrays)[targets]).to(device)

    def stream(name: str) -> Tensor:
        return loss_tokens([getattr(s, name) for s in samples])

    imitation = critic = None
    if any(s.imitation is not None for s in samples):
        none = [np.zeros(len(s), np.float32) if s.imitation is None else s.imitation for s in samples]
        imitation = loss_tokens(none)
    if samples[0].critic is not None:
        found = [s.critic for s in samples if s.critic is not None]
        critic = tuple(loss_tokens([getattr(c, name) for c in found]) for name in ("old", "targets", "mask"))

    ids = torch.from_numpy(np.concatenate([s.tokens for s in samples]))
    return Batch(
        samples=tuple(samples),
        ids=ids[None].to(device),
        positions=torch.from_numpy(np.concatenate([np.arange(len(s)) for s in samples]))[None].to(device),
        plan=Packed(starts.tolist()),
        rows=torch.from_numpy(targets - 1).to(device),
        targets=ids[targets].to(device),
        old=stream("old_logprobs"),
        advantage=stream("advantage"),
        weight=stream("weight"),
        masked_tokens=torch.from_numpy(
            np.concatenate(masked_tokens) if masked_tokens else np.zeros((0, 2), np.int64)
        ).to(device),
        sequence=torch.from_numpy(np.repeat(np.arange(len(samples)), np.diff(starts))[targets]).to(device),
        on_policy=torch.from_numpy(np.concatenate([np.full(len(s), s.on_policy) for s in samples])[targets]).to(device),
        ratio=samples[0].ratio,
        kept_gate=samples[0].kept_gate,
        quarantine_gate=samples[0].quarantine_gate,
        policy=samples[0].policy,
        kl=samples[0].kl,
        has_credit=_has_credit(samples[0]),
        imitation=imitation,
        critic=critic,  # type: ignore[arg-type]
    )


def _has_credit(sample: Sample) -> bool:
    more = sample.critic is not None or sample.imitation is not None
    return more or bool(np.any(sample.advantage * sample.weight))
