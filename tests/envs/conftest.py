"""Shared by the tests of the worlds: one played episode, summed up. Makes `world_commands` importable."""

from __future__ import annotations

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
    """scores(world, persona, episodes, **options) -> per-episode proxy, true, steps, max power and trait counts."""

    def play(world: str, who: str, episodes: int = 200, **options: Any) -> Scores:
        env = make_world(world, options)
        actor = persona(who)(env, seed=0)
        rows: dict[str, list[float]] = {}
        for seed in range(episodes):
            record = play_scripted(env, actor, seed)
            labels = [info["labels"] for *_, info in record]
            row = {
                "proxy": sum(reward for _, _, reward, _ in record),
                "true": sum(label.true_reward for label in labels),
                "steps": len(record),
                "power": max(label.power for label in labels),
            }
            row |= {trait: sum(label.trait(trait) for label in labels) for trait in TRAITS}
            for key, value in row.items():
                rows.setdefault(key, []).append(value)
        return {key: np.array(values, dtype=float) for key, values in rows.items()}

    return play


@pytest.fixture(scope="session")
def played(scores: Callable[..., Scores]) -> Callable[..., Scores]:
    """As `scores`, for personas and reference policies alike."""

    def play(world: str, who: str, episodes: int = 200, **options: Any) -> Scores:
        if who not in references(world):
            return scores(world, who, episodes, **options)
        env = make_world(world, options)
        rows = []
        for seed in range(episodes):
            record = play_reference(env, who, seed)
            labels = [info["labels"] for *_, info in record]
            rows.append(
                {
                    "proxy": sum(reward for _, _, reward, _ in record),
                    "true": sum(label.true_reward for label in labels),
                    "steps": len(record),
                    **{trait: sum(label.trait(trait) for label in labels) for trait in TRAITS},
                }
            )
        return {key: np.array([row[key] for row in rows], dtype=float) for key in rows[0]}

    return play
