"""Token-budget packing: samples laid end to end without padding, with gates and ratio modes kept apart."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from shaping.hooks import RatioMode
from shaping.learning.samples.prefixes import Bins, Relatives, units
from shaping.learning.samples.sample import Sample
from shaping.models.attention import Packed, Plan
from shaping.models.shared_prefix import Family, SharedPrefixes


@dataclass(frozen=True, slots=True)
class Batch:
    """One packed micro-batch of n tokens, m of which are in the loss."""

    samples: tuple[Sample, ...]
    """The samples, in the order of their tokens."""
    ids: Tensor
    """Token ids [1, n]."""
    positions: Tensor
    """Positions within the samples [1, n]."""
    plan: Plan
    """The attention plan: `Packed`, or `SharedPrefixes` if samples have a common prefix that is in the row once."""
    rows: Tensor
    """Positions [m] of the hidden states that predict the loss tokens; the last of a common prefix predicts several."""
    ends: Tensor
    """Positions of the hidden states of the samples' last tokens [samples]."""
    targets: Tensor
    """Token ids of the loss tokens [m]."""
    old: Tensor
    """Old log-probs [m]."""
    advantage: Tensor
    """Advantages [m]."""
    weight: Tensor
    """Factors of the policy-gradient term [m]."""
    masked_tokens: Tensor
    """(index into the m loss tokens, id of a masked token) [k, 2]."""
    sequence: Tensor
    """Index into `samples` of each loss token [m]."""
    on_policy: Tensor
    """True for loss tokens of on-policy samples that were sampled [m]."""
    ratio: RatioMode
    """Ratio mode of all samples."""
    kept_gate: float
    """Gate of the kept parameters, for all samples."""
    quarantine_gate: float
    """Gate of the quarantine parameters, for all samples."""
    policy: bool
    """True if the samples are in the policy loss."""
    kl: bool
    """True if the samples are in the KL."""
    has_credit: bool
    """True if a sample has a non-zero advantage, an imitation weight or critic targets."""
    imitation: Tensor | None
    """Imitation weights [m]; None if no sample has any."""
    critic: tuple[Tensor, Tensor, Tensor] | None
    """(old values [m, heads], targets [m, heads], mask [m]); None without a critic."""

    places: NDArray[np.int64]
    """Place in the row of each token of the samples, one sample after the other."""

    @property
    def loss_tokens(self) -> int:
        """Number of tokens in the loss, m."""
        return len(self.targets)


def assign(lengths: Sequence[int], budget: int, *, padded: bool = False) -> list[list[int]]:
    """Assign samples to micro-batches by first-fit decreasing. `padded`: each counts as long as the longest beside it.

    Returns: the indices of the samples in each micro-batch.
    Raises: ValueError if one sample alone exceeds the budget.
    """
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    if order and lengths[order[0]] > budget:
        raise ValueError(
            f"an episode of {lengths[order[0]]} tokens exceeds learner.token_budget={budget}: raise the budget or "
            "shorten the world's horizon"
        )
    bins: list[list[int]] = []
    free_tokens: list[int] = []
    for i in order:
        for b, free in enumerate(free_tokens):
            cost = lengths[bins[b][0]] if padded else lengths[i]
            if cost <= free:
                bins[b].append(i)
                free_tokens[b] -= cost
                break
        else:
            bins.append([i])
            free_tokens.append(budget - lengths[i])
    return bins


def spread(lengths: Sequence[int], budget: int, ranks: int, *, padded: bool = False) -> list[list[int]]:
    """Assign samples as `assign` does, with equally many micro-batches of similar length per rank.

    Each sample, longest first, goes into the shortest micro-batch: a small last micro-batch would leave ranks waiting.
    With too few samples some ranks get fewer micro-batches.
    """
    bins = assign(lengths, budget, padded=padded)
    if ranks == 1:
        return bins
    if padded:
        return _split(bins, ranks)
    count = -(-len(bins) // ranks) * ranks
    while True:
        loads, members = [0] * count, [list[int]() for _ in range(count)]
        for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
            shortest = loads.index(min(loads))
            members[shortest].append(i)
            loads[shortest] += lengths[i]
        if max(loads, default=0) <= budget:
            return [indices for indices in members if indices]
        count += ranks


def _split(bins: list[list[int]], ranks: int) -> list[list[int]]:
    """Halve the largest micro-batches until there are equally many per rank, or only single samples."""
    bins = list(bins)
    while len(bins) % ranks and len(largest := max(bins, key=len)) > 1:
        bins.remove(largest)
        half = len(largest) // 2
        bins += [largest[:half], largest[half:]]
    return bins


def pack(
    samples: Sequence[Sample],
    budget: int,
    device: torch.device | str = "cpu",
    *,
    ranks: int = 1,
    padded: bool = False,
    shared: bool = False,
) -> list[Batch]:
    """Pack samples into homogeneous micro-batches.

    All samples of a micro-batch have the same ratio mode and gates, and all or none have credit. Groups without reward
    variance have no credit and hence no policy gradient; in their own micro-batches they need no backward pass.

    Homogeneous micro-batches make gates on *parameter* gradients exact: a weight gradient is already summed over the
    batch, so per-sample gates cannot be applied afterwards (Cloud et al., arXiv:2410.04332, gate activations instead,
    which also changes the gradients of earlier layers).

    Args:
        samples: the samples.
        budget: largest number of tokens in a micro-batch.
        device: device of the tensors.
        ranks: processes that share the micro-batches; each gets a similar part of every kind.
        padded: the model will pad the samples of a micro-batch to the longest, which the budget then counts.
        shared: samples that begin alike have their common prefix in the row once, and the budget counts it once.
    Raises: ValueError if one sample alone exceeds the budget.
    """
    kinds: dict[tuple[RatioMode, float, float, bool, bool, bool, bool], list[Sample]] = defaultdict(list)
    for s in samples:
        kinds[s.ratio, s.kept_gate, s.quarantine_gate, _has_credit(s), s.policy, s.kl, s.critic is None].append(s)
    bins = partial(spread, budget=budget, ranks=ranks, padded=padded)
    return [
        _lay_out([group[i] for each in batch for i in each.members], [each.family for each in batch], device)
        for _, group in sorted(kinds.items())
        for batch in (units(group, budget, ranks, bins) if shared else _single(group, bins))
    ]


def _single(samples: Sequence[Sample], bins: Bins) -> list[list[Relatives]]:
    """The samples of each micro-batch, each by itself."""
    lengths = [len(s) for s in samples]
    return [[Relatives.of([i], lengths, 0) for i in members] for members in bins(lengths)]


def _places(families: Sequence[Family]) -> NDArray[np.int64]:
    """The place in the row of every token of every sample."""
    begins = accumulate((family.tokens for family in families), initial=0)
    pieces = [piece for family, begin in zip(families, begins, strict=False) for piece in family.places(begin)]
    return np.concatenate([np.arange(piece.start, piece.stop) for piece in pieces])


def _lay_out(samples: list[Sample], families: list[Family], device: torch.device | str) -> Batch:
    starts = np.concatenate([[0], np.cumsum([len(s) for s in samples])])
    mask = np.concatenate([s.mask for s in samples])
    mask[starts[:-1]] = False  # no hidden state predicts the first token of a sequence
    targets = np.flatnonzero(mask)
    loss_index = np.cumsum(mask) - 1  # token position -> index among the loss tokens
    masked_tokens = [
        np.stack([loss_index[s.masked_tokens[:, 0] + start], s.masked_tokens[:, 1]], axis=1)
        for s, start in zip(samples, starts, strict=False)
        if len(s.masked_tokens)
    ]

    def loss_tokens(arrays: list[NDArray[Any]]) -> Tensor:
        return torch.from_numpy(np.concatenate(arrays)[targets]).to(device)

    def stream(name: str) -> Tensor:
        return loss_tokens([getattr(s, name) for s in samples])

    imitation = critic = None
    if any(s.imitation is not None for s in samples):
        imitation = loss_tokens([np.zeros(len(s), np.float32) if s.imitation is None else s.imitation for s in samples])
    if samples[0].critic is not None:
        critics = [s.critic for s in samples if s.critic is not None]
        critic = tuple(loss_tokens([getattr(c, name) for c in critics]) for name in ("old", "targets", "mask"))

    ids = np.concatenate([s.tokens for s in samples])
    places = _places(families)
    row = np.zeros((2, sum(family.tokens for family in families)), np.int64)
    row[:, places] = ids, np.concatenate([np.arange(len(s)) for s in samples])
    shares = any(family.prefix for family in families)
    return Batch(
        samples=tuple(samples),
        ids=torch.from_numpy(row[:1]).to(device),
        positions=torch.from_numpy(row[1:]).to(device),
        plan=SharedPrefixes(families) if shares else Packed(starts.tolist()),
        rows=torch.from_numpy(places[targets - 1]).to(device),
        ends=torch.from_numpy(places[starts[1:] - 1]).to(device),
        targets=torch.from_numpy(ids[targets]).to(device),
        old=stream("old_logprobs"),
        advantage=stream("advantage"),
        weight=stream("weight"),
        masked_tokens=torch.from_numpy(
            np.concatenate(masked_tokens) if masked_tokens else np.zeros((0, 2), np.int64)
        ).to(device),
        sequence=torch.from_numpy(np.repeat(np.arange(len(samples)), np.diff(starts))[targets]).to(device),
        on_policy=torch.from_numpy(np.concatenate([s.drawn & s.on_policy for s in samples])[targets]).to(device),
        ratio=samples[0].ratio,
        kept_gate=samples[0].kept_gate,
        quarantine_gate=samples[0].quarantine_gate,
        policy=samples[0].policy,
        kl=samples[0].kl,
        has_credit=_has_credit(samples[0]),
        imitation=imitation,
        critic=critic,  # type: ignore[arg-type]
        places=places,
    )


def _has_credit(sample: Sample) -> bool:
    other_losses = sample.critic is not None or sample.imitation is not None
    return other_losses or bool(np.any(sample.advantage * sample.weight))
