"""The reward that the world itself pays."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from envs.episode import Episode
from rewards.base import Reward


class EnvReward(Reward):
    """The world's proxy reward of each turn, unchanged."""

    def score(self, episode: Episode) -> NDArray[np.float64]:
        return np.array([turn.reward for turn in episode.turns], dtype=np.float64)
