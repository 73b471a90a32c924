"""Which samples begin alike, so that the learner computes their common prefix once.

It is found in the tokens, not in labels: members of an advantage group share the briefing and the first observation,
and so do the parts of an episode that a template splits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from shaping.learning.samples.sample import Sample
from shaping.models.shared_prefix import Family, common_prefix

CALL = 8
"""What it costs a sequence to see its prefix from elsewhere in the row, in tokens: 4 to 7 with a million parameters."""
LEAST = 0.03
"""Smallest gain from a common prefix, as a share of its samples' tokens: less is not measurable."""
Lengths = Sequence[int] | Mapping[int, int]
Bins = Callable[[Sequence[int]], list[list[int]]]
"""Lengths of units -> the units of each micro-batch."""


@dataclass(frozen=True, slots=True)
class Relatives:
    """Samples that lie together in a micro-batch, by their indices: some with a common prefix, or one by itself."""

    members: tuple[int, ...]
    """Indices of the samples."""
    family: Family
    """Their common prefix and own tokens."""

    @classmethod
    def of(cls, members: Sequence[int], lengths: Lengths, prefix: int) -> Relatives:
        """Samples that share their first `prefix` tokens; `lengths` are theirs, by index."""
        prefix = prefix if len(members) > 1 else 0
        return cls(tuple(members), Family(prefix, tuple(lengths[i] - prefix for i in members)))

    @property
    def gain(self) -> int:
        """Tokens that need not be computed again, less the cost of seeing them from elsewhere in the row."""
        return (self.family.prefix - CALL) * (len(self.members) - 1)

    def halves(self) -> list[Relatives]:
        """The same samples in two parts of similar length, each with the prefix."""
        lengths = {i: self.family.prefix + own for i, own in zip(self.members, self.family.own, strict=True)}
        order = sorted(self.members, key=lambda i: -lengths[i])
        return [Relatives.of(sorted(part), lengths, self.family.prefix) for part in (order[0::2], order[1::2])]


def relatives(samples: Sequence[Sample]) -> list[Relatives]:
    """The samples in families, such that one common prefix per family gains the most.

    A prefix ends before the first loss token of all members: what is in the loss has weights of its own. Its last token
    predicts the first own token of every member.
    """
    limits = [_limit(sample) for sample in samples]
    starts = [s.tokens[:limit].astype(">i8").tobytes() for s, limit in zip(samples, limits, strict=True)]
    order = sorted(range(len(samples)), key=starts.__getitem__)  # big-endian bytes have the order of the numbers
    common = [common_prefix(samples[a].tokens[: limits[a]], samples[b].tokens[: limits[b]]) for a, b in pairwise(order)]
    found = _families(order, common, [len(s) for s in samples])
    return sorted(found, key=lambda each: each.members)


def units(samples: Sequence[Sample], budget: int, ranks: int, bins: Bins) -> list[list[Relatives]]:
    """The families of each micro-batch, of at most `budget` tokens; a prefix counts once per family.

    A family stays together unless it exceeds the budget, or dividing it makes the slowest of several ranks faster.
    """
    whole = relatives(samples)
    while large := {id(each) for each in whole if each.family.tokens > budget and len(each.members) > 1}:
        whole = [part for each in whole for part in (each.halves() if id(each) in large else [each])]
    best = _filled(whole, bins)
    while ranks > 1:
        heaviest = max(best, key=_tokens)
        largest = max(heaviest, key=lambda each: (len(each.members) > 1, each.family.tokens))
        if len(largest.members) == 1:
            break
        whole = [part for each in whole for part in (each.halves() if each is largest else [each])]
        divided = _filled(whole, bins)
        if _slowest(divided, ranks) >= _slowest(best, ranks):
            break
        best = divided
    return best


def _limit(sample: Sample) -> int:
    """Tokens of a sample that others may share: those before its first loss token, and never all of them."""
    places = sample.loss_positions
    return int(places[0]) if len(places) else len(sample) - 1


def _families(order: Sequence[int], common: Sequence[int], lengths: Sequence[int]) -> list[Relatives]:
    """Families among samples in the order of their tokens; `common` is what neighbours share.

    From the longest common prefix to the shortest, neighbours are joined where one prefix for all gains no less than
    longer ones for some.
    """
    found = [[Relatives.of([i], lengths, 0)] for i in order]
    between = list(common)
    for prefix in sorted({*common} - {0}, reverse=True):
        stretches, left = [[found[0]]], []
        for shared, families in zip(between, found[1:], strict=True):
            if shared == prefix:
                stretches[-1].append(families)
            else:
                stretches.append([families])
                left.append(shared)
        found, between = [_joined(stretch, prefix, lengths) for stretch in stretches], left
    return [each for families in found for each in families]


def _joined(stretch: Sequence[list[Relatives]], prefix: int, lengths: Sequence[int]) -> list[Relatives]:
    """One family of all samples of a stretch if that gains enough, and no less than their present families."""
    apart = [each for families in stretch for each in families]
    members = sorted(i for each in apart for i in each.members)
    together = Relatives.of(members, lengths, prefix)
    enough = max(sum(each.gain for each in apart), LEAST * sum(lengths[i] for i in members))
    return [together] if len(stretch) > 1 and together.gain >= enough else apart


def _filled(whole: Sequence[Relatives], bins: Bins) -> list[list[Relatives]]:
    return [[whole[i] for i in members] for members in bins([each.family.tokens for each in whole])]


def _tokens(batch: Sequence[Relatives]) -> int:
    return sum(each.family.tokens for each in batch)


def _slowest(batches: Sequence[Sequence[Relatives]], ranks: int) -> int:
    """Tokens of the slowest rank in every round of micro-batches, summed over rounds."""
    return sum(sorted(map(_tokens, batches), reverse=True)[::ranks])
