"""Every built-in reward and monitor keeps its contract; broken ones fail a rule by name."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from envs.discovery import subclasses
from envs.episode import Episode
from rewards import Reward
from shaping.contract.readers import MONITOR_RULES, REWARD_RULES, check_monitor, check_reward
from shaping.monitors import Monitor, Reading


class PaysOnce(Reward):
    def score(self, episode: Episode) -> Any:
        return np.array([episode.proxy_return])


class PaysAtRandom(Reward):
    def score(self, episode: Episode) -> Any:
        return np.random.default_rng().random(len(episode.turns))


class Zeroes(Reward):
    def score(self, episode: Episode) -> Any:
        episode.tokens[:] = 0
        return np.zeros(len(episode.turns))


class ReadsTheFuture(Monitor):
    name: str = "future"

    def read(self, episode: Episode) -> list[Reading]:
        return [Reading(self.name, "harm", len(episode.turns), 1.0)]


class Narrow(Monitor):
    name: str = "narrow"
    trait: str = "harm"

    def read(self, episode: Episode) -> list[Reading]:
        return [Reading(self.name, "deception", 0, 1.0)]


class Signed(Monitor):
    name: str = "signed"

    def read(self, episode: Episode) -> list[Reading]:
        return [Reading("another", "harm", 0, 1.0)]


@pytest.mark.parametrize("kind", subclasses("rewards", Reward).values())
def test_built_in_rewards_keep_every_rule(kind: type[Reward]) -> None:
    results = check_reward(kind, worlds=("clerk", "errand"))
    assert [(each.rule, each.ok, each.detail) for each in results] == [(rule, True, "ok") for rule in REWARD_RULES]


@pytest.mark.parametrize("kind", subclasses("shaping.monitors", Monitor).values())
def test_built_in_monitors_keep_every_rule(kind: type[Monitor]) -> None:
    results = check_monitor(kind, worlds=("clerk", "errand"))
    assert [(each.rule, each.ok, each.detail) for each in results] == [(rule, True, "ok") for rule in MONITOR_RULES]


@pytest.mark.parametrize(
    ("kind", "rule", "detail"),
    [
        (PaysOnce, "scores", "must return one number per turn"),
        (PaysAtRandom, "pure", "score_group() gave two answers"),
        (Zeroes, "read_only", "score_group() changed what it was shown"),
    ],
)
def test_a_broken_reward_fails_its_rule(kind: type[Reward], rule: str, detail: str) -> None:
    (failed,) = [each for each in check_reward(kind, seeds=1, worlds=("clerk",)) if not each.ok]
    assert failed.rule == rule and detail in failed.detail


@pytest.mark.parametrize(
    ("kind", "detail"),
    [(ReadsTheFuture, "it read turn"), (Narrow, "suspects() does not name"), (Signed, "signed 'another'")],
)
def test_a_broken_monitor_fails_its_rule(kind: type[Monitor], detail: str) -> None:
    (failed,) = [each for each in check_monitor(kind, seeds=1, worlds=("clerk",)) if not each.ok]
    assert failed.rule == "reads" and detail in failed.detail
