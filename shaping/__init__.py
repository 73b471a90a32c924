"""Reinforcement learning of language agents, with motivations shaped or actions constrained.

For notebooks, loaded when they are first used:

    shaping.open_study(directory)        a study as frames, episodes and verdicts
    shaping.sample(world, model, arm)    groups of episodes under an arm
    shaping.play(world, model, arm)      one episode
    shaping.open_policy(model, arm)      a policy to sample with and to train
"""

from __future__ import annotations

import importlib
from typing import Any

_LATER = {
    "open_study": "launch.analysis.opened",
    "sample": "launch.analysis.sampling",
    "play": "launch.analysis.sampling",
    "open_policy": "launch.analysis.sampling",
}
"""Name -> the module that has it. They are found by name, as plug-ins are: this package imports nothing of `launch`."""


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(importlib.import_module(_LATER[name]), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATER})
