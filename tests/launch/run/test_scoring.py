"""The stage that asks the reward: group by group, and then all groups together."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

from envs.episode import Episode
from launch.run.stages import score
from rewards import EnvReward, RandomReward, Reward

MakeEpisode = Callable[..., Episode]


def trainer(reward: Reward) -> Any:
    return cast(Any, SimpleNamespace(reward=reward, run=SimpleNamespace(train=SimpleNamespace(reward_timeout=60.0))))


def test_rewards_are_exchanged_between_groups_and_stand_beside_their_episodes(make_episode: MakeEpisode) -> None:
    """Two groups whose episodes come in turns: each is paid what the other one earned."""
    returns = {0: (1.0, 2.0), 1: (10.0, 20.0)}
    episodes = [make_episode([0.0, returns[g][k]], seed=g, group=g) for k in (0, 1) for g in (0, 1)]
    own = [float(amounts.sum()) for amounts in score(trainer(EnvReward()), episodes)]
    assert own == [1.0, 10.0, 2.0, 20.0]
    paid = [float(amounts.sum()) for amounts in score(trainer(RandomReward(mode="exchange")), episodes)]
    assert {paid[0], paid[2]} == {10.0, 20.0} and {paid[1], paid[3]} == {1.0, 2.0}
