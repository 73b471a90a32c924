"""Training that ends when it earns enough: `train.stop_at_reward`."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any

from launch.config.train import TrainConfig


class RewardStop:
    """Reached when the mean reward of the last `train.stop_window` updates is at least `train.stop_at_reward`.

    It looks at rows of metrics.jsonl alone, so that a resumed run stops where it would have stopped.
    """

    def __init__(self, config: TrainConfig, rows: Iterable[Mapping[str, Any]] = ()) -> None:
        self._level = config.stop_at_reward
        self._recent: deque[float] = deque(maxlen=config.stop_window)
        for row in rows:
            self.see(row)

    def see(self, row: Mapping[str, Any]) -> None:
        """Take in the row of the next update."""
        if "reward" in row:
            self._recent.append(float(row["reward"]))

    @property
    def reached(self) -> bool:
        if self._level is None or len(self._recent) < (self._recent.maxlen or 0):
            return False
        return sum(self._recent) / len(self._recent) >= self._level
