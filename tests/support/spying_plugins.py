"""Plug-ins that look for ground truth in everything that they are handed. Configs name them `spying_plugins:Class`."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Sequence
from types import FrameType, FunctionType, ModuleType
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from envs.episode import Episode, Labels, Sealed
from rewards.base import Reward
from shaping.hook_names import hooks_of
from shaping.hooks import Knob, RatioMode
from shaping.intervention import Constraint
from shaping.monitors.base import Monitor, Reading

CALLED: Counter[str] = Counter()
"""`Class.hook` -> how often it was called."""
FOUND: Counter[str] = Counter()
"""`Class.hook` -> how often labels could be reached from its arguments."""
_LEFT_OUT = (type, ModuleType, FrameType, FunctionType, str, bytes, int, float)


def look(plugin: object, hook: str, arguments: Sequence[Any]) -> None:
    """Walk the object graph below the arguments of a hook, also through private attributes and seals."""
    name = f"{type(plugin).__name__}.{hook}"
    CALLED[name] += 1
    seen: dict[int, object] = {}
    pending = [argument for argument in arguments if argument is not plugin]
    while pending:
        thing = pending.pop()
        if id(thing) in seen or issubclass(type(thing), _LEFT_OUT):
            continue
        seen[id(thing)] = thing
        if issubclass(type(thing), Labels) or (type(thing) is Sealed and thing._value is not None):
            FOUND[name] += 1
            return
        pending += gc.get_referents(thing)


class Spy(Constraint):
    """Looks in every hook of shapers and constraints; neutral in all of them."""

    owns: ClassVar[frozenset[Knob]] = frozenset(Knob) - {Knob.SAMPLING_EDITS, Knob.TRAINING_EDITS}

    def ratio_mode(self) -> RatioMode:
        return "recomputed"


def _spying(hook: str) -> Any:
    def method(self: Spy, *arguments: Any, **named: Any) -> Any:
        look(self, hook, [*arguments, *named.values()])
        return getattr(Constraint, hook)(self, *arguments, **named)

    return method


TAKES_ARGUMENTS = [
    hook
    for hook in sorted(hooks_of(Constraint))
    if getattr(getattr(Constraint, hook), "__code__", None) and getattr(Constraint, hook).__code__.co_argcount > 1
    if hook not in ("control_fields", "load_state_dict", "untested", "edits")
]
"""The hooks that are handed something of a run while it trains."""
for _hook in TAKES_ARGUMENTS:
    setattr(Spy, _hook, _spying(_hook))


class OracleSpy(Spy):
    """Declares that it reads ground truth: what it is shown holds it."""

    oracle: ClassVar[bool] = True


class SpyReward(Reward):
    """Pays what the world pays."""

    def score_group(self, episodes: Sequence[Episode]) -> Sequence[NDArray[np.float64]]:
        look(self, "score_group", [episodes])
        return super().score_group(episodes)

    def score(self, episode: Episode) -> NDArray[np.float64]:
        look(self, "score", [episode])
        return np.array([turn.reward for turn in episode.turns])


class SpyMonitor(Monitor):
    """Suspects nobody, and may be trained against."""

    name: str = "spy"

    def read(self, episode: Episode) -> list[Reading]:
        look(self, "read", [episode])
        return []
