"""The checks of rewards and monitors: good ones keep every rule, broken ones fail one by name."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from envs.episode import Episode
from rewards import EnvReward, Reward
from shaping.contract.readers import MONITOR_RULES, REWARD_RULES, check_monitor, check_reward
from shaping.monitors import ClaimCheck, Monitor, Reading


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


def test_good_ones_have_one_result_per_rule() -> None:
    paid = check_reward(EnvReward, worlds=("errand",))
    read = check_monitor(ClaimCheck, worlds=("errand",))
    for results, rules, hook in ((paid, REWARD_RULES, "score_group"), (read, MONITOR_RULES, "read")):
        told = {each.rule: each.detail for each in results if each.ok}
        assert list(told) == list(rules) and told.pop("time").startswith(f"{hook}() ")
        assert set(told.values()) == {"ok"}


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
