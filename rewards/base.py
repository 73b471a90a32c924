"""What pays: rewards turn an episode into one number per turn."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict

from envs.episode import Episode


class RewardError(ValueError):
    """A reward is not one finite number per turn."""


class Reward(BaseModel):
    """Base of everything that pays. Fields are configuration; `score` reads the redacted episode, never the truth."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    @abstractmethod
    def score(self, episode: Episode) -> NDArray[np.float64]:
        """Reward per turn, shape [turns]."""

    def score_group(self, episodes: Sequence[Episode]) -> list[NDArray[np.float64]]:
        """Reward per turn of each episode of one group, checked. The loop calls this, once per group."""
        return [checked(episode, self.score(episode), type(self).__name__) for episode in episodes]


def checked(episode: Episode, rewards: ArrayLike, source: str) -> NDArray[np.float64]:
    """`rewards` as an array of shape [turns].

    Raises `RewardError`, naming the world, the seed and the turn, if the shape is wrong or a value is not finite.
    """
    values = np.asarray(rewards, dtype=np.float64)
    where = f"world {episode.world!r}, seed {episode.seed}"
    if values.shape != (len(episode.turns),):
        raise RewardError(
            f"{source}: got rewards of shape {values.shape} for {len(episode.turns)} turns in {where}; "
            "score() must return one number per turn"
        )
    if bad := np.flatnonzero(~np.isfinite(values)).tolist():
        raise RewardError(
            f"{source}: the reward is {values[bad[0]]} in {where}, turn {bad[0]}; "
            "training on it would destroy the policy: fix the world or the reward"
        )
    return values
