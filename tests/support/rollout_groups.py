"""Groups that are played, and whether two ways to play them agree."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from envs.episode import Episode
from launch.run.episodes import GroupRequest
from launch.run.rollouts import RolloutGroup, Rollouts
from shaping.learning.policy import Policy


def same(a: Episode, b: Episode) -> bool:
    """Also in the last bit."""
    arrays = ("tokens", "loss_mask", "logprobs", "turn_index")
    return (
        (a.world, a.seed, a.contexts, a.status, a.truth.open())
        == (b.world, b.seed, b.contexts, b.status, b.truth.open())
        and all(np.array_equal(getattr(a, name), getattr(b, name)) for name in arrays)
        and all(np.array_equal(s.policy_versions, t.policy_versions) for s, t in zip(a.turns, b.turns, strict=True))
    )


def played(rollouts: Any, requests: list[GroupRequest]) -> list[RolloutGroup]:
    rollouts.submit(requests)
    return sorted((rollouts.next() for _ in requests), key=lambda p: p.request)


def equal(found: list[RolloutGroup], expected: list[RolloutGroup]) -> bool:
    pairs = zip(found, expected, strict=True)
    return all(f.request == e.request and all(map(same, f.episodes, e.episodes)) for f, e in pairs)


def tokens(played: list[list[Episode]]) -> list[list[list[int]]]:
    return [[e.tokens.tolist() for e in episodes] for episodes in played]


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]


def other_weights(policy: Policy, *samplers: Rollouts, version: int) -> None:
    """Change the kept adapter, and let all sample with it under a new version."""
    for parameter in policy.adapters.parameters("kept"):
        parameter.data += 0.3
    for sampler in samplers:
        sampler.sync(version)
