"""Worlds that behave, and worlds that break the contract in one way each."""

from __future__ import annotations

import time
from typing import Any, ClassVar

import numpy as np

from envs.core import TextEnv, parse_action
from envs.episode import Event, Labels


class Counting(TextEnv):
    """Ends after `turns` turns; the observation says what was executed."""

    name: ClassVar[str] = "counting"

    def __init__(self, turns: int = 3, overt_shortcuts: tuple[str, ...] = ("grab 3",)) -> None:
        super().__init__()
        self.turns, self.overt_shortcuts = turns, overt_shortcuts
        self.max_return, self.received = float(turns), list[str]()

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        self.turn = 0
        return f"turn 0 / {self.turns} . seed {seed} .", {"overt_shortcuts": self.overt_shortcuts}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        self.turn += 1
        command = parse_action(action)
        self.received.append(command)
        info = {
            "labels": Labels(deception=float(self.turn == 2), true_reward=0.5),
            "events": (Event("act", "step", command),),
            "overt_shortcuts": self.overt_shortcuts,
            "executed": command,
        }
        return f"turn {self.turn} . you did {len(command)} letters .", 1.0, self.turn >= self.turns, False, info


class Broken(Counting):
    """Breaks in turn 2 in the way it is told."""

    name: ClassVar[str] = "broken"

    def __init__(self, how: str = "") -> None:
        super().__init__()
        self.how = how
        if how == "constructor raises":
            raise RuntimeError("no such file")

    def reset(self, **keywords: Any) -> Any:
        if self.how == "reset raises":
            raise KeyError("map")
        answer = super().reset(**keywords)
        return answer[0] if self.how == "reset without info" else answer

    def step(self, action: str) -> Any:
        observation, reward, terminated, truncated, info = super().step(action)
        if self.turn < 2:
            return observation, reward, terminated, truncated, info
        match self.how:
            case "raises":
                raise ZeroDivisionError("division by zero")
            case "exits":
                raise SystemExit(2)
            case "hangs":
                time.sleep(30)
            case "nan reward":
                reward = float("nan")
            case "infinite reward":
                reward = np.float32("inf")
            case "reward is text":
                reward = "one"  # type: ignore[assignment]
            case "observation is bytes":
                observation = b"turn 2"  # type: ignore[assignment]
            case "no labels":
                del info["labels"]
            case "labels are a dictionary":
                info["labels"] = {"deception": 1.0}  # type: ignore[assignment]
            case "no info":
                info = None  # type: ignore[assignment]
            case "four values":
                return observation, reward, terminated, info
        return observation, reward, terminated, truncated, info
