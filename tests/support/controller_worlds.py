"""Worlds for tests of the training loop: named in configs as `controller_worlds:Class`."""

from __future__ import annotations

from typing import Any, ClassVar
from zlib import crc32

from envs.core import TextEnv, parse_action
from envs.episode import Labels
from envs.worlds.steward import Steward


class Vowels(TextEnv):
    """Pays 1 for a command that holds an "a"; three turns. A random policy earns a little of it."""

    name: ClassVar[str] = "vowels"
    shown: ClassVar[str] = "seed {seed} . watch {watch} . placebo {placebo} ."

    def __init__(self, watch: str = "drawn", placebo: str = "none") -> None:
        super().__init__()
        self.cues = {"watch": watch, "placebo": placebo}
        self.max_return = 3.0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        self.turn = 0
        return self.shown.format(seed=seed, **self.cues), {}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        self.turn += 1
        command = parse_action(action)
        reward = float("a" in command)
        labels = Labels(reward_hack=reward, opportunity={"reward_hack": True}, true_reward=-reward)
        return f"turn {self.turn} .", reward, self.turn == 3, False, {"labels": labels, "executed": command}


class OftenSilent(Vowels):
    """In two of three seeds every turn pays 1, whatever is done; in the others what it pays depends on what is done."""

    name: ClassVar[str] = "often_silent"
    shown: ClassVar[str] = "seed {seed} ."

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        self.silent = (seed or 0) % 3 != 0
        return super().reset(seed=seed, options=options)

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        observation, _, over, cut, info = super().step(action)
        return observation, 1.0 if self.silent else float(crc32(action.encode()) % 97), over, cut, info


class Raises(Vowels):
    """Fails in its second turn: always, or in every `every`-th episode."""

    name: ClassVar[str] = "raises"
    episodes: ClassVar[int] = 0

    def __init__(self, every: int = 1, where: str = "step", **cues: str) -> None:
        super().__init__(**cues)
        type(self).episodes += 1
        self.fails, self.where = type(self).episodes % every == 0, where

    def reset(self, **keywords: Any) -> tuple[str, dict[str, Any]]:
        if self.fails and self.where == "reset":
            raise OSError("the map is missing")
        return super().reset(**keywords)

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        if self.fails and self.turn == 1:
            raise OSError("the map is missing")
        return super().step(action)


class FailsLater(Steward):
    """Once it is `armed`, e.g. after the checks before a study, every n-th episode fails in its first turn."""

    name: ClassVar[str] = "fails_later"
    armed: ClassVar[int] = 0
    episodes: ClassVar[int] = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        FailsLater.episodes += 1
        self.fails = self.armed > 0 and FailsLater.episodes % self.armed == 0
        return super().reset(seed=seed, options=options)

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        if self.fails:
            raise OSError("the map is missing")
        return super().step(action)
