"""What pays: rewards turn an episode into one number per turn."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from envs.calls import call
from envs.episode import Episode
from envs.per_turn import per_turn


class RewardError(ValueError):
    """A reward is not one finite number per turn."""


class Reward(BaseModel):
    """Base of everything that pays. Fields are configuration; `score` reads the redacted episode, never the truth."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    @abstractmethod
    def score(self, episode: Episode) -> NDArray[np.float64]:
        """Reward per turn, shape [turns]."""

    def score_group(self, episodes: Sequence[Episode]) -> list[NDArray[np.float64]]:
        """Reward per turn of each episode of one group. `scored` calls this, once per group."""
        return [checked(episode, self.score(episode), type(self).__name__) for episode in episodes]

    def between(
        self, groups: Sequence[Sequence[Episode]], paid: Sequence[Sequence[NDArray[np.float64]]]
    ) -> Sequence[Sequence[NDArray[np.float64]]]:
        """What the groups of one update are paid, given what each of them is paid alone. By default that.

        For rewards that depend on other groups; the same shapes are returned. `exchanged` calls it, once per update.
        """
        return paid

    def lacking(self) -> str:
        """What it needs on this machine and does not find, with the remedy; empty if nothing.

        A study is not started without it. A dry run only says so, since it may be made before the study is.
        """
        return ""


def scored(reward: Reward, episodes: Sequence[Episode]) -> list[NDArray[np.float64]]:
    """What `reward` pays in one group, an array [turns] per episode. It sees redacted episodes.

    Raises: `RewardError` that names the class and the entry if the reward raises, or if its answer is not one array of
    finite numbers, with a finite sum, per episode. Lists are taken for arrays.
    """
    answer = call(RewardError, reward, "score_group", tuple(episode.redacted() for episode in episodes))
    return _of_group(reward, "score_group", answer, episodes)


def exchanged(
    reward: Reward, groups: Sequence[Sequence[Episode]], paid: Sequence[list[NDArray[np.float64]]]
) -> Sequence[list[NDArray[np.float64]]]:
    """What `reward` makes of the groups of one update, of which each has been `paid` by `scored`.

    Raises: `RewardError` as `scored` does.
    """
    if type(reward).between is Reward.between:
        return paid
    shown = tuple(tuple(episode.redacted() for episode in members) for members in groups)
    answer = call(RewardError, reward, "between", shown, tuple(tuple(a.copy() for a in each) for each in paid))
    if not isinstance(answer, (list, tuple)) or len(answer) != len(groups):
        raise RewardError(
            f"{type(reward).__name__}.between() must return what each of the {len(groups)} groups is paid, in order"
        )
    return [_of_group(reward, "between", own, members) for own, members in zip(answer, groups, strict=True)]


def scored_groups(reward: Reward, groups: Sequence[Sequence[Episode]]) -> Sequence[list[NDArray[np.float64]]]:
    """What `reward` pays in the groups of one update, see `scored` and `exchanged`."""
    return exchanged(reward, groups, [scored(reward, members) for members in groups])


def _of_group(reward: Reward, hook: str, answer: Any, episodes: Sequence[Episode]) -> list[NDArray[np.float64]]:
    name = type(reward).__name__
    if not isinstance(answer, (list, tuple)) and not (isinstance(answer, np.ndarray) and answer.ndim == 2):
        raise RewardError(
            f"{name}.{hook}() returned {type(answer).__name__}; it must return a list with an array for each of "
            f"the {len(episodes)} episodes"
        )
    if len(answer) != len(episodes):
        raise RewardError(
            f"{name}.{hook}() returned {len(answer)} arrays for a group of {len(episodes)} episodes; it must "
            "return one for each, in their order"
        )
    return [
        checked(e, values, f"{name}, episode {n}") for n, (e, values) in enumerate(zip(episodes, answer, strict=True))
    ]


def checked(episode: Episode, rewards: Any, source: str) -> NDArray[np.float64]:
    """`rewards` as an array of shape [turns].

    Raises `RewardError`, naming `source`, the world, the seed and the turn, if the type or shape is wrong, or a value
    or the sum is not finite.
    """
    try:
        return per_turn(rewards, len(episode.turns), "rewards")
    except ValueError as error:
        raise RewardError(
            f"{source} (world {episode.world!r}, seed {episode.seed}): {error}; training on it would destroy the "
            "policy: fix the world or the reward"
        ) from None
