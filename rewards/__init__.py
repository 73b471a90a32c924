"""What pays."""

from rewards.base import Reward, RewardError
from rewards.env_reward import EnvReward
from rewards.random_reward import RandomReward

__all__ = ["EnvReward", "RandomReward", "Reward", "RewardError"]
