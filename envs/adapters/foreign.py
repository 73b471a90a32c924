"""The frame of all adapters: a foreign environment as a `TextEnv`, with the few labels that are really known.

Foreign environments say how a game went, and some say that a move was invalid. They know nothing of deception or power.
These labels stay 0 *without opportunity*, so rates over foreign episodes have no denominator instead of a false zero.
"""

from __future__ import annotations

import contextlib
import importlib
import math
import random
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from envs.actions import command_text
from envs.core import TextEnv
from envs.episode import TRAITS, Labels
from envs.text import message_of

OPPORTUNITY = {trait: trait == "invalid" for trait in TRAITS}
_LOCK = threading.RLock()


class MissingExtraError(ImportError):
    """An adapter's package is not installed."""


class ForeignEnvError(RuntimeError):
    """A foreign environment could not be opened, raised, or answered with something unusable."""


def need(module: str, extra: str) -> ModuleType:
    """Import `module`. Raises a `MissingExtraError` that names its extra if it is not installed."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != module.partition(".")[0]:
            raise
        raise MissingExtraError(f"{module} is not installed; it comes with: pip install 'shaping[{extra}]'") from error


def finite(value: Any, where: str) -> float:
    """A number as float. Raises `ForeignEnvError` for text, None, NaN and infinities."""
    try:
        number = float(value)
    except (TypeError, ValueError) as error:
        raise ForeignEnvError(f"{where}: the reward is {value!r}; it must be a number") from error
    if not math.isfinite(number):
        raise ForeignEnvError(f"{where}: the reward is {number}; it must be finite")
    return number


class Streams:
    """A private state of the global generators (`random`, `numpy.random`) for one foreign environment.

    Inside `swapped()` the global generators continue this stream; outside they are as they were. A lock lets one
    environment in at a time. A thread without an adapter that draws meanwhile still gets numbers of this stream.
    """

    def __init__(self, seed: int) -> None:
        self._python: Any = random.Random(seed).getstate()
        self._numpy: Any = np.random.RandomState(seed % 2**32).get_state()

    @contextlib.contextmanager
    def swapped(self) -> Iterator[None]:
        """Put the stream in place of the global generators."""
        with _LOCK:
            python, numpy = random.getstate(), np.random.get_state()
            random.setstate(self._python)
            np.random.set_state(self._numpy)
            try:
                yield
            finally:
                self._python, self._numpy = random.getstate(), np.random.get_state()
                random.setstate(python)
                np.random.set_state(numpy)


@dataclass(frozen=True)
class Answer:
    """A foreign environment's answer to one command."""

    text: str
    """The next observation."""
    reward: float = 0.0
    """The reward of the turn."""
    terminated: bool = False
    """Has the game ended?"""
    truncated: bool = False
    """Was it cut off?"""
    invalid: bool = False
    """Did the environment refuse the command?"""
    true_reward: float | None = None
    """The true reward; None: the environment knows only the reward."""
    opportunity: frozenset[str] = frozenset()
    """Traits, beside `invalid`, that could have happened in this turn."""
    traits: tuple[tuple[str, float], ...] = ()
    """Traits that happened, with their counts, as far as the environment says so."""


class ForeignEnv(TextEnv, ABC):
    """Base of the adapters: seeds, the order of calls, clean values. A subclass opens and plays.

    Args:
        horizon: turns after which the episode is truncated.
    """

    name = "foreign"
    max_return = 1.0

    def __init__(self, *, horizon: int = 100) -> None:
        super().__init__()
        if not isinstance(horizon, int) or horizon < 1:
            raise ValueError(f"world {self.name!r}, option 'horizon': must be a whole number >= 1 (got {horizon!r})")
        self.horizon = horizon
        self.clock = 0
        self.over = True
        self.episode_seed = 0

    @abstractmethod
    def open(self, seed: int) -> str:
        """Start the episode that `seed` names. Returns the first observation."""

    @abstractmethod
    def play(self, command: str) -> Answer:
        """Play one command."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        super().reset(seed=seed)
        if options:
            raise ValueError(f"world {self.name!r} takes its options in the constructor, not in reset: {options}")
        self.episode_seed = int(self.np_random.integers(2**31)) if seed is None else int(seed)
        self.clock = 0
        text = self._called(lambda: self.open(self.episode_seed), "reset")
        self.over = False
        return text, {"events": (), "overt_shortcuts": (), "executed": ""}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        if not isinstance(action, str):
            raise TypeError(f"world {self.name!r}: an action is text, got {type(action).__name__}")
        if self.over:
            raise RuntimeError(f"world {self.name!r}: the episode is over; call reset() before step()")
        command = command_text(action)
        answer: Answer = self._called(lambda: self.play(command), f"turn {self.clock}")
        reward = finite(answer.reward, f"world {self.name!r}, turn {self.clock}")
        self.clock += 1
        truncated = not answer.terminated and (answer.truncated or self.clock >= self.horizon)
        self.over = answer.terminated or truncated
        happened: dict[str, Any] = dict(answer.traits)
        labels = Labels(
            **{**happened, "invalid": float(answer.invalid)},
            opportunity={trait: OPPORTUNITY[trait] or trait in answer.opportunity for trait in TRAITS},
            knew=bool(happened.get("deception")),
            true_reward=reward if answer.true_reward is None else answer.true_reward,
        )
        executed = "" if answer.invalid else command
        info = {"labels": labels, "events": (), "overt_shortcuts": (), "executed": executed}
        return answer.text, reward, answer.terminated, truncated, info

    def _called(self, call: Any, where: str) -> Any:
        """The result of a foreign call. Its exceptions become a `ForeignEnvError` that names the place."""
        try:
            return call()
        except (ForeignEnvError, MissingExtraError, ValueError):
            raise
        except Exception as error:
            what = f"{type(error).__name__}: {message_of(error)}"
            raise ForeignEnvError(f"world {self.name!r}, {where}: {what}") from error
