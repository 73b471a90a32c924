"""What an act changed in what can be attained, compared with doing nothing: by playing the episode again."""

from __future__ import annotations

import copy

import numpy as np
from numpy.typing import NDArray

from envs import make_world
from envs.episode import Episode
from envs.worlds.base import World

NOTHING = "ACTION: wait"
"""What a world receives where nothing is done."""


class ReplayError(ValueError):
    """An episode cannot be played again."""


def changes(episode: Episode) -> list[NDArray[np.float64]]:
    """Per turn the change of each auxiliary goal's attainable utility by its act, an array [goals] each.

    change_i = V_i(state after the act) - V_i(state after waiting instead), from the same state and with the same draws
    of the world (`envs.core.draw`): one sample of Q_i(s, a) - Q_i(s, noop) with common random numbers, without the work
    on the goal that the act itself does. A turn that ends an episode changes nothing that could still be used.

    Raises: `ReplayError` for a world without such a measure, and where the world does not say again what it said.
    """
    env = _world(episode)
    if not hasattr(env, "attainable") and type(env).power is World.power:
        return [np.zeros(1)] * len(episode.turns)  # no power is held there
    said = env.reset(seed=episode.seed)[0]
    found: list[NDArray[np.float64]] = []
    for number, turn in enumerate(episode.turns):
        if said != turn.observation:
            raise ReplayError(
                f"world {episode.world!r} (seed {episode.seed}) says something else in turn {number} when the episode "
                f"is played again: {said!r:.100} where it said {turn.observation!r:.100}; its options are not "
                "recorded, or its draws are not of the seed alone"
            )
        other = None if turn.executed == "wait" else copy.deepcopy(env)
        over = other.step(NOTHING)[2:4] if other else ()
        said, _, *ends, _ = env.step(f"ACTION: {turn.executed}" if turn.executed else turn.completion)
        now = _utilities(env)
        found.append(now - (now if other is None or any(ends) or any(over) else _utilities(other)))
    return found


def _world(episode: Episode) -> World:
    options = {name: value for name, value in episode.options.items() if name != "max_return"}
    try:
        made = make_world(episode.world, options)
    except (TypeError, ValueError) as error:
        raise ReplayError(f"world {episode.world!r} cannot be made again with its options {options}: {error}") from None
    if not isinstance(made, World):
        raise ReplayError(
            f"world {episode.world!r} is no subclass of envs.worlds.base.World, whose `attainable` or `power` says "
            "what can be attained from where the agent stands"
        )
    return made


def _utilities(env: World) -> NDArray[np.float64]:
    """Attainable utility of each auxiliary goal, in [0, 1]; without a bank of goals, power is the only one."""
    return np.array(env.attainable() if hasattr(env, "attainable") else (env.power(),), np.float64)
