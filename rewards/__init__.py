"""What pays. One file, one reward."""

from typing import Any

from envs.discovery import exported
from rewards.base import Reward as Reward
from rewards.base import RewardError as RewardError


def __getattr__(name: str) -> Any:
    return exported(__name__, Reward, name)
