"""The critic's targets over the samples of an update."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from shaping.learning.sample import Sample


def value_targets(samples: Sequence[Sample], device: torch.device) -> Tensor:
    """The critic's targets, [steps, heads]."""
    targets = [s.critic.targets[s.critic.mask] for s in samples if s.critic is not None]
    return torch.from_numpy(np.concatenate(targets)).to(device) if targets else torch.zeros(0, 1, device=device)


def critic_metrics(samples: Sequence[Sample]) -> dict[str, float]:
    """Share of the variance of the reward's value targets that the critic's old values explain."""
    critics = [s.critic for s in samples if s.critic is not None]
    if not critics:
        return {}
    targets = np.concatenate([c.targets[c.mask, 0] for c in critics])
    old = np.concatenate([c.old[c.mask, 0] for c in critics])
    variance = float(targets.var())
    return {"explained_variance": 1.0 - float((targets - old).var()) / variance if variance > 0 else 0.0}
