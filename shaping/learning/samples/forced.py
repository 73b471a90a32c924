"""Forced tokens in the learner: what the policy would have said of text that was not sampled.

A completion may begin with text that an intervention forced (`shaping.hooks.Prefill`). The sampler has no log-prob of
it. Before the first step of an update the learner reads the policy's own, pi(m), and

- puts it into the old log-probs of forced tokens that are in the loss, so that their policy ratio starts at one;
- multiplies the weights of a corrected turn by min(pi(m) / q(m), cap), where q is the proposal that drew the text.

With q the tokens of the turn are samples of q(m) pi(a | m), and the weight makes of them samples of pi(m) pi(a | m)
(truncated: Ionides 2008, arXiv:1802.01561). It corrects a turn for its own text, and no later turn for it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from envs.episode import Episode
from shaping.hooks import ActivationEdit
from shaping.learning.losses.objective import MetricSums
from shaping.learning.policy import Policy
from shaping.learning.ranks.parallel import Ranks
from shaping.learning.samples.packing import Batch
from shaping.learning.samples.sample import ForcedTokens, Sample


def forced_tokens(episode: Episode) -> ForcedTokens | None:
    """The forced tokens of an episode that stay in its sequence; None if there are none."""
    forced = episode.forced_tokens & ~stripped_tokens(episode)
    if not forced.any():
        return None
    proposal = {n: turn.forced.proposal for n, turn in enumerate(episode.turns) if turn.forced.corrected}
    return ForcedTokens(forced, episode.turn_index, proposal)


def stripped_tokens(episode: Episode) -> NDArray[np.bool_]:
    """True on forced tokens that are left out of what is learned, shape [tokens]."""
    stripped = np.array([turn.forced.stripped for turn in episode.turns], bool)
    if not stripped.any():
        return np.zeros(len(episode.tokens), bool)
    known = (episode.turn_index >= 0) & (episode.turn_index < len(stripped))  # an unanswered turn has no Turn
    return episode.forced_tokens & known & stripped[np.where(known, episode.turn_index, 0)]


@dataclass(frozen=True)
class ForcedReader:
    """Reads the policy's log-probs of forced tokens."""

    policy: Policy
    """The policy, before the first step of the update."""
    ranks: Ranks
    """The processes that share the work."""
    edits: Sequence[ActivationEdit]
    """The activation edits of training."""
    cap: float
    """Largest weight of a corrected turn."""
    packed: Callable[[Sequence[Sample]], list[Batch]]
    """Lays samples out in micro-batches."""

    @torch.no_grad()
    def applied(self, samples: Sequence[Sample], sums: MetricSums) -> Sequence[Sample]:
        """The samples with old log-probs of their forced tokens, and with corrected weights. Costs a forward pass."""
        read = {
            number: replace(s, mask=s.mask | s.forced.tokens, critic=None)
            for number, s in enumerate(samples)
            if s.forced is not None and s.policy and ((s.mask & s.forced.tokens).any() or s.forced.proposal)
        }
        if not read:
            return samples
        index = {id(sample): number for number, sample in read.items()}
        found: dict[int, Sample] = {}
        batches = self.packed(list(read.values()))
        for batch, real in self.ranks.share(batches, lambda _: "read", lambda b: b.ids.numel()):
            logprobs, _ = self.policy.logprobs(batch, self.edits)
            for number, sample in enumerate(batch.samples):
                of_tokens = np.zeros(len(sample), np.float64)
                of_tokens[sample.loss_positions] = logprobs[batch.sequence == number].double().cpu().numpy()
                position = index[id(sample)]
                found[position] = self._corrected(samples[position], of_tokens, sums if real else MetricSums())
        for of_rank in self.ranks.gather(found):
            found |= of_rank
        return [found.get(number, sample) for number, sample in enumerate(samples)]

    def _corrected(self, sample: Sample, logprobs: NDArray[np.float64], sums: MetricSums) -> Sample:
        assert sample.forced is not None
        forced, turns = sample.forced.tokens, sample.forced.turn
        old, weight = sample.old_logprobs.copy(), sample.weight.copy()
        old[forced & sample.mask] = logprobs[forced & sample.mask]
        sums.add("forced_logprob", float(logprobs[forced].sum()), int(forced.sum()))
        for turn, proposal in sample.forced.proposal.items():
            if (inside := sample.mask & (turns == turn)).any():
                share = float(np.exp(min(logprobs[forced & (turns == turn)].sum() - proposal, np.log(self.cap))))
                weight[inside] *= share
                sums.add("proposal_weight", share, 1)
        return replace(sample, old_logprobs=old, weight=weight)
