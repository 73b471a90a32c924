"""Samples of older versions in the learner: importance weights, which make up for how far the policy has moved."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch

from shaping.hooks import ActivationEdit
from shaping.learning.config import LearnerConfig
from shaping.learning.losses.losses import mismatch_weight
from shaping.learning.losses.objective import MetricSums
from shaping.learning.policy import Policy
from shaping.learning.ranks.parallel import Ranks
from shaping.learning.samples.packing import Batch
from shaping.learning.samples.sample import Sample


@dataclass(frozen=True)
class StaleReader:
    """Reads the present log-probs of tokens that older versions sampled."""

    policy: Policy
    """The policy, before the first step of the update."""
    ranks: Ranks
    """The processes that share the work."""
    edits: Sequence[ActivationEdit]
    """The activation edits of sampling."""
    config: LearnerConfig
    """Which weights, and their cap."""
    packed: Callable[[Sequence[Sample], int], list[Batch]]
    """Lays samples out in micro-batches of at most so many tokens."""

    @torch.no_grad()
    def applied(self, samples: Sequence[Sample], sums: MetricSums) -> Sequence[Sample]:
        """Multiply the weights of samples from older versions by importance weights. Costs one more forward pass.

        The weight is min(pi_now / pi_then, cap), or its variant by `mismatch_correction`, under the sampling context,
        edits and adapters. With ratio `recomputed` this is the decoupled objective of Hilton et al. (arXiv:2110.00641),
        which Fu et al. (arXiv:2505.24298) use for asynchronous runs; the proximal policy is the one at the start of
        the update.
        """
        config = self.config
        if config.mismatch_correction == "none":
            return samples
        index = {id(s.sampled): number for number, s in enumerate(samples) if s.sampled is not None and s.policy}
        stale = [s.sampled for s in samples if id(s.sampled) in index and s.sampled is not None]
        if not stale:
            return samples
        budget = max(config.token_budget, *map(len, stale))  # a sampling context may be longer than the training one
        weighted: dict[int, Sample] = {}
        with self.policy.phase("sampling"):
            batches = self.packed(stale, budget)
            for batch, real in self.ranks.share(batches, lambda _: "read", lambda b: b.ids.numel()):
                now, _ = self.policy.logprobs(batch, self.edits)
                ratio = mismatch_weight(
                    now, batch.old, mode=config.mismatch_correction, cap=config.mismatch_cap, sequence=batch.sequence
                )
                into = sums if real else MetricSums()
                into.add("staleness_weight", ratio.sum(), len(ratio))
                for number, as_sampled in enumerate(batch.samples):
                    position = index[id(as_sampled)]
                    sample = samples[position]
                    weight = sample.weight.copy()
                    weight[sample.drawn] *= ratio[batch.sequence == number].cpu().numpy()
                    weighted[position] = replace(sample, weight=weight)
        for of_rank in self.ranks.gather(weighted):
            weighted |= of_rank
        return [weighted.get(number, sample) for number, sample in enumerate(samples)]
