"""What pays: the world's own reward, and the control that pays without looking."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from envs.episode import Episode
from rewards import EnvReward, RandomReward, Reward, RewardError
from rewards.base import scored, scored_groups

MakeEpisode = Callable[..., Episode]


def test_the_outcome_is_the_proxy_reward_of_each_turn(make_episode: MakeEpisode) -> None:
    episode = make_episode([0.0, -1.0, 2.5])
    assert EnvReward().score(episode).tolist() == [0.0, -1.0, 2.5]
    assert [r.tolist() for r in EnvReward().score_group([episode, make_episode([1.0])])] == [[0.0, -1.0, 2.5], [1.0]]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("reward", [EnvReward(), RandomReward()])
def test_a_reward_that_is_not_finite_is_refused_by_place(
    make_episode: MakeEpisode, reward: Reward, value: float
) -> None:
    group = [make_episode([0.0, 1.0]), make_episode([0.0, value], seed=41, world="clerk")]
    with pytest.raises(RewardError, match=rf"world 'clerk', seed 41\): turn 1 of the rewards is {value}"):
        reward.score_group(group)


def test_a_reward_of_the_wrong_shape_is_refused(make_episode: MakeEpisode) -> None:
    class Total(Reward):
        def score(self, episode: Episode) -> NDArray[np.float64]:
            return np.array([episode.proxy_return])

    with pytest.raises(RewardError, match=r"Total \(.*\): got rewards of shape \(1,\) for 2 turns"):
        Total().score_group([make_episode([0.0, 1.0])])


def test_shuffling_deals_out_the_returns_of_the_group(make_episode: MakeEpisode) -> None:
    group = [make_episode([0.0] * k + [float(k)]) for k in range(8)]
    dealt = RandomReward().score_group(group)
    assert [len(r) for r in dealt] == [k + 1 for k in range(8)]
    assert all(not r[:-1].any() for r in dealt)
    assert sorted(r.sum() for r in dealt) == [float(k) for k in range(8)]
    assert [r.sum() for r in dealt] != [float(k) for k in range(8)]


def test_shuffled_rewards_do_not_correlate_with_what_was_earned(make_episode: MakeEpisode) -> None:
    own = np.arange(4) - 1.5
    covariances = []
    for seed in range(600):
        group = [make_episode([value], seed=seed) for value in own]
        covariances.append(float(np.mean(own * [r.sum() for r in RandomReward().score_group(group)])))
    error = np.std(covariances) / np.sqrt(len(covariances))
    assert error > 0 and abs(np.mean(covariances)) < 4 * error


def test_matched_noise_has_the_mean_and_spread_of_the_groups_returns(make_episode: MakeEpisode) -> None:
    own = np.array([0.0, 1.0, 1.0, 4.0])
    paid = np.array(
        [
            [r.sum() for r in RandomReward(mode="matched").score_group([make_episode([v], seed=seed) for v in own])]
            for seed in range(200)
        ]
    )
    assert abs(paid.mean() - own.mean()) < 4 * own.std() / np.sqrt(paid.size)
    assert abs(paid.std() - own.std()) < 0.1 * own.std()
    assert abs(np.mean(paid * (own - own.mean()))) < 4 * own.std() ** 2 / np.sqrt(paid.size)
    even = RandomReward(mode="matched").score_group([make_episode([2.0], seed=9) for _ in range(3)])
    assert [r.sum() for r in even] == [2.0] * 3  # where returns do not vary, no noise does


def test_shuffling_needs_the_group(make_episode: MakeEpisode) -> None:
    with pytest.raises(RewardError, match="call score_group"):
        RandomReward().score(make_episode())


def test_gaussian_rewards_have_the_scale_and_ignore_the_world(make_episode: MakeEpisode) -> None:
    reward = RandomReward(mode="gaussian", scale=2.0)
    paid = np.array([reward.score(make_episode([0.0, 5.0], seed=s)) for s in range(2000)])
    assert not paid[:, 0].any()
    assert abs(paid[:, 1].mean()) < 4 * 2.0 / np.sqrt(2000) and abs(paid[:, 1].std() - 2.0) < 0.15
    assert reward.score(make_episode([0.0, 5.0])).tolist() == reward.score(make_episode([0.0, -1.0])).tolist()


@pytest.mark.parametrize("mode", ["shuffle", "gaussian"])
def test_draws_repeat_for_the_same_episodes_and_change_with_the_seed(make_episode: MakeEpisode, mode: str) -> None:
    def paid(seed: int, world_seed: int) -> list[float]:
        group = [make_episode([float(k)], seed=world_seed) for k in range(6)]
        return [float(r.sum()) for r in RandomReward(mode=mode, seed=seed).score_group(group)]

    assert paid(0, 1) == paid(0, 1)
    assert paid(0, 1) != paid(1, 1) and paid(0, 1) != paid(0, 2)


def test_exchanged_returns_are_those_of_another_group_of_the_same_world(make_episode: MakeEpisode) -> None:
    """Three groups of one world go round, so that none keeps its own; one alone in its world is shuffled."""
    own = [[1.0, 2.0, 3.0], [10.0, 20.0, 30.0], [100.0, 200.0], [7.0, 8.0]]
    worlds = ("steward", "steward", "steward", "clerk")
    groups = [
        [make_episode([0.0, value], seed=g, group=g, world=world) for value in values]
        for g, (values, world) in enumerate(zip(own, worlds, strict=True))
    ]
    reward = RandomReward(mode="exchange")
    paid = scored_groups(reward, groups)
    assert all(not amounts[0] for members in paid for amounts in members)
    sums = [{float(amounts.sum()) for amounts in members} for members in paid]
    donors = [next(n for n, values in enumerate(own) if dealt <= set(values)) for dealt in sums]
    assert sorted(donors[:3]) == [0, 1, 2] and all(donor != own for own, donor in enumerate(donors[:3]))
    assert donors[3] == 3 and sums[3] == {7.0, 8.0}
    assert [len(members) for members in paid] == [3, 3, 2, 2]
    again = scored_groups(reward, groups)
    assert [[a.tolist() for a in members] for members in paid] == [[a.tolist() for a in members] for members in again]
    alone = scored(reward, groups[0])
    assert sorted(float(amounts.sum()) for amounts in alone) == own[0]


def test_what_groups_are_paid_together_is_checked(make_episode: MakeEpisode) -> None:
    class Short(EnvReward):
        def between(self, groups: object, paid: object) -> object:
            return ()

    class Wrong(EnvReward):
        def between(self, groups: object, paid: list[list[NDArray[np.float64]]]) -> object:
            return [[amounts[:1] for amounts in members] for members in paid]

    groups = [[make_episode([0.0, 1.0])]]
    with pytest.raises(RewardError, match=r"Short.between\(\) must return what each of the 1 groups is paid"):
        scored_groups(Short(), groups)
    with pytest.raises(RewardError, match=r"Wrong, episode 0 .*shape \(1,\) for 2 turns"):
        scored_groups(Wrong(), groups)
