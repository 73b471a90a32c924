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
    name = type(reward).__name__
    answer = call(RewardError, reward, "score_group", tuple(episode.redacted() for episode in episodes))
    if not isinstance(answer, (list, tuple)) and not (isinstance(answer, np.ndarray) and answer.ndim == 2):
        raise RewardError(
            f"{name}.score_group() returned {type(answer).__name__}; it must return a list with an array for each of "
            f"the {len(episodes)} episodes"
        )
    if len(answer) != len(episodes):
        raise RewardError(
            f"{name}.score_group() returned {len(answer)} arrays for a group of {len(episodes)} episodes; it must "
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
