"""Optimiser states in bfloat16: rounding is right on average, and what is kept is enough to learn and to resume."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from shaping.learning.steps import adamw
from shaping.learning.steps.optimizer import GatedOptimizer
from shaping.learning.steps.rounding import random_bits, rounded

CPU = torch.device("cpu")


@pytest.mark.parametrize("value", [1.0, 1.001, -1.003, 3e-5, -1e-30, 0.0])
@pytest.mark.parametrize("draw", [0, 1, 2])
def test_a_value_is_rounded_to_its_neighbours_and_to_itself_on_average(value: float, draw: int) -> None:
    values = torch.full((50_000,), value)
    found = rounded(values, random_bits(7, 0, len(values), CPU), draw).double()
    below, above = float(found.min()), float(found.max())
    exact = values.double()[0]
    assert below <= exact <= above and len(found.unique()) <= 2
    assert above - below <= abs(exact) * 2**-7
    assert abs(found.mean() - exact) <= 4 * found.std() / len(found) ** 0.5


def test_draws_of_keys_places_and_roundings_differ() -> None:
    bits = random_bits(7, 0, 10_000, CPU)
    others = [random_bits(8, 0, 10_000, CPU), random_bits(7, 10_000, 10_000, CPU), bits >> 16, bits >> 32]
    for other in others:
        pair = torch.stack([bits & 0xFFFF, other & 0xFFFF]).double()
        assert abs(torch.corrcoef(pair)[0, 1]) < 0.04


def test_a_shard_draws_what_the_whole_draws_there() -> None:
    assert torch.equal(random_bits(3, 0, 100, CPU)[40:70], random_bits(3, 40, 30, CPU))


def after(weight: nn.Parameter, steps: int, lr: float, goal: Tensor, states: adamw.OptimizerStates) -> Tensor:
    """Minimises the squared distance to a goal."""
    optimizer = GatedOptimizer({"kept": [weight]}, lr=lr, states=states)
    for _ in range(steps):
        with optimizer.gated({}):
            (weight.float() - goal).square().sum().backward()
        optimizer.norm(1e9)
        optimizer.step()
        optimizer.clear()
    return weight.detach().float()


def test_a_regression_reaches_the_loss_of_float32_where_bfloat16_alone_does_not_move() -> None:
    """Steps of 2e-4, a twentieth of the distance of bfloat16 numbers. The margin is 2 % of the loss at the start."""
    goal = 1.0 + 0.05 * torch.randn(4096, generator=torch.Generator().manual_seed(0))

    def loss(weight: Tensor) -> float:
        return float((weight.detach().float() - goal).square().mean())

    def ones() -> nn.Parameter:
        return nn.Parameter(torch.ones(4096, dtype=torch.bfloat16))

    plain = ones()
    adam = torch.optim.AdamW([plain], lr=2e-4, weight_decay=0.0)
    for _ in range(50):
        adam.zero_grad()
        (plain.float() - goal).square().sum().backward()
        adam.step()
    start = loss(torch.ones(4096))
    assert loss(plain) > 0.95 * start, "the control: nearly every step is rounded away"
    exact, found = (loss(after(ones(), 700, 2e-4, goal, states)) for states in ("float32", "bfloat16"))
    assert exact < 0.02 * start, "the rest is the distance of the goal from bfloat16 numbers"
    assert abs(found - exact) < 0.02 * start


def test_weights_move_on_average_as_in_float32() -> None:
    goal = torch.full((4096,), 9.0)
    exact, found = (
        after(nn.Parameter(torch.ones(4096, dtype=torch.bfloat16)), 200, 1e-4, goal, states)
        for states in ("float32", "bfloat16")
    )
    assert float(found.mean()) == pytest.approx(1.02, abs=0.0005)
    assert float(exact.mean()) == pytest.approx(1.02, abs=0.004)


def test_float32_weights_are_stepped_exactly_and_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    goal = torch.randn(1000, generator=torch.Generator().manual_seed(1))
    found = after(nn.Parameter(torch.zeros(1000)), 20, 1e-2, goal, "bfloat16")
    exact = after(nn.Parameter(torch.zeros(1000)), 20, 1e-2, goal, "float32")
    assert (found - exact).abs().max() < 0.01 * exact.abs().max()
    monkeypatch.setitem(adamw.CHUNK, "cpu", 64)
    assert torch.equal(after(nn.Parameter(torch.zeros(1000)), 20, 1e-2, goal, "bfloat16"), found)
