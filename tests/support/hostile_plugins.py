"""Rewards and monitors that hang: named in configs as `hostile_plugins:Class`."""

from __future__ import annotations

import time
from typing import Any

from envs.episode import Episode
from rewards.base import Reward
from shaping.monitors.base import Monitor, Reading


class Hangs(Reward):
    def score(self, episode: Episode) -> Any:
        time.sleep(600)


class Sleeps(Monitor):
    name: str = "sleeps"

    def read(self, episode: Episode) -> list[Reading]:
        time.sleep(600)
        return []
