"""Power in a world that does not say what power is: what could be attained from here, over a bank of goals?

A state is worth what other goals could be served from it (POWER, Turner et al., arXiv:1912.01683; attainable utility,
arXiv:1902.09725). Foreign worlds show no states and no optimal policies, so both are estimated: the state is reached
again by the same commands under the same seed, probe policies go on from there, and each goal counts its best return.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from shaping.audits.intervals import bootstrap_interval
from shaping.audits.training.access import best_of_k


class Steps(Protocol):
    """A text world in gymnasium's terms."""

    def reset(self, *, seed: int | None = None) -> tuple[Any, dict[str, Any]]: ...

    def step(self, action: str) -> tuple[Any, Any, bool, bool, dict[str, Any]]: ...


class Seen(NamedTuple):
    """One step of a probe."""

    command: str
    observation: str
    reward: float
    ended: bool


@dataclass(frozen=True, slots=True)
class Goal:
    """Something that an agent could want here."""

    name: str
    attained: Callable[[Sequence[Seen]], float]
    """How far the steps of a probe attain it, in [0, 1]."""


Probe = Callable[[str, np.random.Generator], str]
"""(the last observation, random numbers) -> a command."""


def attainable(
    make: Callable[[], Steps],
    seed: int,
    commands: Sequence[str],
    goals: Sequence[Goal],
    probes: Sequence[Probe],
    *,
    tries: int = 8,
    horizon: int = 16,
) -> NDArray[np.float64]:
    """How far each try attained each goal, shape [goals, probes x tries], from the state after `commands`.

    Every try makes a world of its own. If the world ends with the commands, nothing is attainable: zeros. Raises
    `ValueError` for a goal whose value is not in [0, 1].
    """
    found = np.zeros((len(goals), len(probes) * tries))
    for column, (probe, number) in enumerate((p, t) for p in range(len(probes)) for t in range(tries)):
        rng = np.random.default_rng([seed, probe, number])
        steps = _tried(make(), seed, commands, probes[probe], rng, horizon)
        for row, goal in enumerate(goals):
            value = float(goal.attained(steps)) if steps else 0.0
            if not 0 <= value <= 1:
                raise ValueError(f"goal {goal.name!r} says {value}: scale it to [0, 1]")
            found[row, column] = value
    return found


def estimated_power(attained: NDArray[np.float64], k: int) -> tuple[float, float, float]:
    """Mean over goals of the expected best of k tries, with a 95 % interval over goals, from attained[goals, tries].

    A lower bound of attainable utility: better probes would attain more. Compare states under equal probes and k.
    """
    best = [best_of_k(row, k) for row in attained]
    return bootstrap_interval(best, list(range(len(best))))


def _tried(
    world: Steps, seed: int, commands: Sequence[str], probe: Probe, rng: np.random.Generator, horizon: int
) -> list[Seen]:
    observation, _ = world.reset(seed=seed)
    for command in commands:
        observation, _, terminated, truncated, _ = world.step(command)
        if terminated or truncated:
            return []
    steps: list[Seen] = []
    while len(steps) < horizon and not (steps and steps[-1].ended):
        command = probe(str(observation), rng)
        observation, reward, terminated, truncated, _ = world.step(command)
        steps.append(Seen(command, str(observation), float(reward), bool(terminated or truncated)))
    return steps
