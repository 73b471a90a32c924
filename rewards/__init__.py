"""What pays."""

from rewards.base import Reward, RewardError
from rewards.outcome import Outcome
from rewards.random_reward import RandomReward

__all__ = ["Outcome", "RandomReward", "Reward", "RewardError"]
