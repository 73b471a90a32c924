"""The critic's value head: a linear read-out of the final hidden state, in units of the returns it has seen."""

from __future__ import annotations

import torch
from torch import Tensor, nn

RATE = 0.1
"""Weight of the newest update in the running moments, once there have been ten."""
RIDGE = 1e-2
"""Of the mean square of a feature: enough to keep directions that hardly vary out of the fit."""


class ValueHead(nn.Module):
    """Values [..., heads] of hidden states [..., hidden], in float32.

    The linear layer predicts returns of mean zero and deviation one; what comes out is scaled back with running
    moments of the targets. When the moments change, the layer is changed the other way, so that no prediction moves
    (PopArt, van Hasselt et al., arXiv:1602.07714). The size of the rewards then decides neither the size of the value
    loss against the policy's nor how long the critic takes to find the level.
    """

    mean: Tensor
    deviation: Tensor
    seen: Tensor

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
        """Take the targets [n, heads] of an update into the running moments; no prediction changes.

        Except by the first: a head that has learned nothing yet starts at the mean, or it would spend updates on
        finding the level.
        """
        if not len(targets):
            return
        fresh = self.seen == 0
        rate = torch.maximum(1 / (self.seen + 1), self.seen.new_tensor(RATE))
        mean, variance = targets.mean(0), targets.var(0, correction=0)
        new_mean = self.mean + rate * (mean - self.mean)
        before = self.deviation**2 + (self.mean - new_mean) ** 2  # about the new mean: large squares would cancel
        new_variance = before + rate * (variance + (mean - new_mean) ** 2 - before)
        # a head whose targets never vary (a constraint without a price) keeps its unit
        new_deviation = torch.where(new_variance > 1e-8, new_variance.clamp_min(1e-8).sqrt(), self.deviation)
        scale = self.deviation / new_deviation
        bias = (self.linear.bias * self.deviation + self.mean - new_mean) / new_deviation
        self.linear.weight.mul_(torch.where(fresh, 1.0, scale)[:, None])
        self.linear.bias.copy_(torch.where(fresh, self.linear.bias, bias))
        self.mean.copy_(new_mean)
        self.deviation.copy_(new_deviation)
        self.seen.add_(1)

    @torch.no_grad()
    def fit(self, gram: Tensor, moment: Tensor) -> None:
        """Set the layer to the ridge regression of normalised targets on features, in float64.

        `gram` [hidden + 1, hidden + 1] is the sum of x x^T over steps, `moment` [hidden + 1, heads] that of x y, with
        x the hidden state and a one, y the target in units of `mean` and `deviation`.
        """
        ridge = RIDGE * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
        solution = torch.linalg.solve(gram + ridge, moment).to(self.linear.weight.dtype)
        self.linear.weight.copy_(solution[:-1].T)
        self.linear.bias.copy_(solution[-1])
