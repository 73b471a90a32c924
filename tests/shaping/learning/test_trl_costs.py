"""Costs in rows for TRL: the same credit as the project's own learner gets, groups priced as a whole included."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose

from envs.episode import Episode
from rewards.env_reward import EnvReward
from shaping.arm import compose
from shaping.intervention import Constraint
from shaping.sampling.text.render import Renderer
from shaping.trl.rollouts import refuse_unsupported, rows

REWARDS = ((0.0, 1.0), (0.0, 3.0), (2.0, 0.0), (0.0, 0.0))


class Swapped(Constraint):
    """Every episode of a pair pays what the other has earned."""

    def cost_group(self, episodes: Sequence[Episode]) -> list[np.ndarray]:
        return [np.array([turn.reward for turn in e.turns]) for e in episodes[::-1]]


@pytest.mark.parametrize(
    ("floor", "advantages", "costs"),
    [(0.05, [-1, 1, 1, -1], [1, -1, -1, 1]), (1.0, [-1 / 3, 1 / 3, 1 / 2, -1 / 2], [1 / 3, -1 / 3, -1 / 2, 1 / 2])],
)
def test_rows_have_returns_minus_weighted_costs(
    make_episode: Callable[..., Episode], renderer: Renderer, floor: float, advantages: list[float], costs: list[float]
) -> None:
    episodes = [make_episode(r, group=n // 2, seed=n // 2) for n, r in enumerate(REWARDS)]
    arm = compose("arm", [Swapped(weight=0.25)])
    refuse_unsupported(arm, {})
    options: dict[str, Any] = {"algorithm": "grpo", "level": "episode", "spread_floor": floor}
    found, metrics = rows(episodes, arm, renderer, EnvReward(), **options)
    for row, advantage, cost in zip(found, advantages, costs, strict=True):
        assert_allclose(row.credit[row.mask == 1], advantage - 0.25 * cost, rtol=1e-6)
    assert metrics["cost"] == pytest.approx(1.5)
