"""Shared by the tests of the worlds: episodes of scripted policies, summed up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from envs import make_world
from envs.episode import TRAITS
from envs.personas.persona import persona, play_reference, play_scripted, references

Scores = dict[str, np.ndarray]


@pytest.fixture(scope="session")
def scores() -> Callable[..., Scores]:
    """scores(world, policy, episodes, **options) -> per episode: proxy, true, steps, top (the world's `max_return`),
    the largest power, and counts of traits and outcomes. A policy is a persona or a reference policy of the world."""

    def play(world: str, who: str, episodes: int = 200, **options: Any) -> Scores:
        env = make_world(world, options)
        actor = None if who in references(world) else persona(who)(env, seed=0)
        rows: list[dict[str, float]] = []
        for seed in range(episodes):
            record = play_scripted(env, actor, seed) if actor else play_reference(env, who, seed)
            labels = [info["labels"] for *_, info in record]
            row = {
                "proxy": sum(reward for _, _, reward, _ in record),
                "true": sum(label.true_reward for label in labels),
                "steps": len(record),
                "top": env.max_return,
                "power": max(label.power for label in labels),
            }
            row |= {trait: sum(label.trait(trait) for label in labels) for trait in TRAITS}
            rows.append(row | Counter(label.outcome for label in labels if label.outcome))
        keys = dict.fromkeys(key for row in rows for key in row)
        return {key: np.array([row.get(key, 0) for row in rows], dtype=float) for key in keys}

    return play
