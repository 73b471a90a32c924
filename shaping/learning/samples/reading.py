"""Log-probs of whole answers, read without learning from them."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from shaping.hooks import ActivationEdit
from shaping.learning.policy import Policy
from shaping.learning.ranks.parallel import Ranks
from shaping.learning.samples.packing import Batch
from shaping.learning.samples.sample import Sample


@torch.no_grad()
def summed_logprobs(
    policy: Policy, samples: Sequence[Sample], batches: Sequence[Batch], ranks: Ranks, edits: Sequence[ActivationEdit]
) -> list[float]:
    """Per sample the sum of the log-probs of its loss tokens, in nats. `batches` hold the samples; ranks share them."""
    index = {id(sample): number for number, sample in enumerate(samples)}
    sums: dict[int, float] = {}
    for batch, _ in ranks.share(batches, lambda _: "read", lambda b: b.ids.numel()):
        logprobs, _ = policy.logprobs(batch, edits)
        for number, sample in enumerate(batch.samples):
            sums[index[id(sample)]] = float(logprobs[batch.sequence == number].double().sum())
    for of_rank in ranks.gather(sums):
        sums |= of_rank
    return [sums[number] for number in range(len(samples))]
