"""The critic's value head: a linear layer on the final hidden state, in units of the observed returns."""

from __future__ import annotations

import torch
from torch import Tensor, nn

RATE = 0.1
"""Weight of the newest update in the running moments, from the tenth update on."""
RIDGE = 1e-2
"""Ridge penalty relative to the mean square of a feature: it keeps directions that hardly vary out of the fit."""

CHUNK = 1024
"""Steps of which features are held in float64 at once."""


class Regression:
    """Sums over steps from which `ValueHead.fit` finds a regression, in float64.

    Args:
        hidden: size of a hidden state.
        heads: number of targets.
        device: where the sums are taken.
    """

    def __init__(self, hidden: int, heads: int, device: torch.device | str = "cpu") -> None:
        self.gram = torch.zeros(hidden + 1, hidden + 1, dtype=torch.float64, device=device)
        """Sum of x x^T; x is a hidden state and a one."""
        self.moment = torch.zeros(hidden + 1, heads, dtype=torch.float64, device=device)
        """Sum of x y^T; y are the targets."""

    @torch.no_grad()
    def add(self, states: Tensor, targets: Tensor) -> None:
        """Add hidden states [steps, hidden] and their targets [steps, heads], a chunk at a time."""
        for own, wanted in zip(states.split(CHUNK), targets.split(CHUNK), strict=True):
            features = torch.cat([own.double(), own.new_ones(len(own), 1, dtype=torch.float64)], dim=1)
            self.gram.addmm_(features.T, features)
            self.moment.addmm_(features.T, wanted.double())


class ValueHead(nn.Module):
    """Values [..., heads] of hidden states [..., hidden], in float32.

    The linear layer predicts returns of mean zero and deviation one, and running moments of the targets scale its
    output back. When the moments change, the layer changes the other way, so that no prediction moves (PopArt, van
    Hasselt et al., arXiv:1602.07714). The scale of the rewards then affects neither the size of the value loss
    relative to the policy loss, nor the time that the critic needs to reach the level of the returns.
    """

    mean: Tensor
    """Running mean of the targets, shape [heads]."""
    deviation: Tensor
    """Running standard deviation of the targets, shape [heads]."""
    seen: Tensor
    """Number of updates observed."""

    def __init__(self, hidden: int, heads: int, device: torch.device | str = "cpu") -> None:
        super().__init__()
        self.linear = nn.Linear(hidden, heads, device=device)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)
        self.register_buffer("mean", torch.zeros(heads, device=device))
        self.register_buffer("deviation", torch.ones(heads, device=device))
        self.register_buffer("seen", torch.zeros((), device=device))

    def forward(self, hidden: Tensor) -> Tensor:
        return self.linear(hidden.float()) * self.deviation + self.mean

    @torch.no_grad()
    def observe(self, targets: Tensor) -> None:
        """Update the running moments with the targets [n, heads] of an update. No prediction changes.

        The first update is the exception: the untrained head then predicts the mean, because it would otherwise need
        many updates to reach the level of the returns.
        """
        if not len(targets):
            return
        first = self.seen == 0
        rate = torch.maximum(1 / (self.seen + 1), self.seen.new_tensor(RATE))
        mean, variance = targets.mean(0), targets.var(0, correction=0)
        new_mean = self.mean + rate * (mean - self.mean)
        # Taken about the new mean, because a difference of large squares would cancel.
        old_variance = self.deviation**2 + (self.mean - new_mean) ** 2
        new_variance = old_variance + rate * (variance + (mean - new_mean) ** 2 - old_variance)
        # A head with constant targets (e.g. of a constraint that prices nothing) keeps its unit.
        new_deviation = torch.where(new_variance > 1e-8, new_variance.clamp_min(1e-8).sqrt(), self.deviation)
        scale = self.deviation / new_deviation
        bias = (self.linear.bias * self.deviation + self.mean - new_mean) / new_deviation
        self.linear.weight.mul_(torch.where(first, 1.0, scale)[:, None])
        self.linear.bias.copy_(torch.where(first, self.linear.bias, bias))
        self.mean.copy_(new_mean)
        self.deviation.copy_(new_deviation)
        self.seen.add_(1)

    @torch.no_grad()
    def fit(self, sums: Regression) -> None:
        """Set the layer to the ridge regression of targets, in units of `mean` and `deviation`, on features."""
        gram = sums.gram
        ridge = RIDGE * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
        solution = torch.linalg.solve(gram + ridge, sums.moment).to(self.linear.weight.dtype)
        self.linear.weight.copy_(solution[:-1].T)
        self.linear.bias.copy_(solution[-1])
