"""Any gymnasium environment whose observations and actions are text."""

from __future__ import annotations

import importlib
import math
from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
from gymnasium.spaces import Discrete, Text

from envs.adapters.foreign import Answer, ForeignEnv, ForeignEnvError, Streams


class GymnasiumText(ForeignEnv):
    """A gymnasium environment as a world.

    Its action space is `Text`, or `Discrete` with `actions` that name each choice. A text outside of the action space
    is invalid: it costs a turn, and the environment never sees it.

    Args:
        id: the environment's id for `gymnasium.make`, also as `"module:Name-v0"`.
        env_options: further arguments of `gymnasium.make`.
        actions: words for the numbers of a discrete action space.
        true_reward: key of `info` that holds the true reward, if the environment tells it (else it is the reward).
        max_return: the largest return, if known.
        horizon: turns after which the episode is truncated.
    """

    name = "gymnasium"

    def __init__(
        self,
        *,
        id: str,
        env_options: Mapping[str, Any] | None = None,
        actions: Sequence[str] = (),
        true_reward: str = "",
        max_return: float = 1.0,
        horizon: int = 1000,
    ) -> None:
        super().__init__(horizon=horizon)
        module, colon, _ = id.partition(":")
        if colon:
            importlib.import_module(module)
        try:
            with Streams(0).swapped():
                self._env: gymnasium.Env[Any, Any] = gymnasium.make(id, **dict(env_options or {}))
        except gymnasium.error.Error as error:
            raise ValueError(f"world 'gymnasium', option 'id': {error}") from error
        self.max_return = float(max_return)
        self._words = {word.strip().lower(): number for number, word in enumerate(actions)}
        self._true_reward = true_reward
        space = self._env.action_space
        if not isinstance(self._env.observation_space, Text):
            raise ValueError(f"world 'gymnasium': {id!r} observes {self._env.observation_space}, not Text")
        if isinstance(space, Discrete):
            if len(self._words) != space.n:
                raise ValueError(
                    f"world 'gymnasium': {id!r} has {space.n} actions; option 'actions' must name each of them"
                )
        elif not isinstance(space, Text):
            raise ValueError(f"world 'gymnasium': {id!r} takes {space}; only Text and Discrete can be said")

    def open(self, seed: int) -> str:
        self._streams = Streams(seed)
        with self._streams.swapped():
            self._last, _ = self._env.reset(seed=seed % 2**31)
        return _text(self._last)

    def play(self, command: str) -> Answer:
        action = self._action(command)
        if action is None:
            return Answer(f"not a command .\n{self._last}", invalid=True)
        with self._streams.swapped():
            self._last, reward, terminated, truncated, info = self._env.step(action)
        true = None
        if self._true_reward:
            try:
                true = float(info[self._true_reward])
            except (KeyError, TypeError, ValueError) as error:
                raise ForeignEnvError(
                    f"info[{self._true_reward!r}], which option 'true_reward' names: {error}"
                ) from error
            if not math.isfinite(true):
                raise ForeignEnvError(f"info[{self._true_reward!r}] is {true}; it must be finite")
        return Answer(_text(self._last), float(reward), bool(terminated), bool(truncated), true_reward=true)

    def close(self) -> None:
        self._env.close()

    def _action(self, command: str) -> Any:
        if self._words:
            return self._words.get(command.lower())
        return command if self._env.action_space.contains(command) else None


def _text(observation: Any) -> str:
    if not isinstance(observation, str):
        raise ForeignEnvError(f"an observation of type {type(observation).__name__}; it must be text")
    return observation
