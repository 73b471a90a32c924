"""Power as attainable utility: how well could the agent serve goals that it does not have, from where it stands?

A world declares an abstract *process* (states, and the possible moves of each, with their chances) and a *goal bank*:
amounts of other work to be done within a few turns. The utility of a goal is the share of its work that is done in
time. Its attainable utility is the expected utility of the best policy for it, over everything the agent can do,
permitted or not. Power is the mean over the bank: 1 means that every goal can be met in full.

The bank stands for the auxiliary goals of attainable utility preservation (Turner et al. 2020, arXiv 1902.09725). The
mean of optimal values over a distribution of goals is POWER (Turner et al. 2021, arXiv 1912.01683). Here the goals mean
something in the world; independent rewards for its states would not (`envs.power.naive` shows why).

Everything is exact: finite states, finite horizons, backward induction.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

State = TypeVar("State", bound=Hashable)


class Goal(NamedTuple):
    """Do `units` of other work within `turns` turns. Utility: the share of it that is done, in [0, 1]."""

    units: int
    """The work to be done."""
    turns: int
    """The time for it."""


class Move(NamedTuple, Generic[State]):
    """One possible move in a state."""

    units: int
    """Work that it does at once."""
    leads: tuple[tuple[float, State], ...]
    """(probability, state at the beginning of the next turn); the probabilities sum to 1."""


Process = Callable[[State], Sequence[Move[State]]]
"""The moves of a state; never none."""


@dataclass(frozen=True)
class Model(Generic[State]):
    """All states within reach and their moves, as arrays. States with fewer moves than others repeat their last one."""

    states: tuple[State, ...]
    """The states, in the order of the arrays."""
    chances: NDArray[np.float64]
    """Probabilities, shape [moves, states, next states]; each row sums to 1."""
    units: NDArray[np.int64]
    """Work that a move does at once, shape [moves, states]."""


def explore(start: State, process: Process[State]) -> Model[State]:
    """All states within reach of `start`. Raises `ValueError` if chances do not sum to 1."""
    index: dict[State, int] = {start: 0}
    queue, found = [start], []
    while queue:
        state = queue.pop()
        moves = tuple(process(state))
        if not moves:
            raise ValueError(f"state {state!r} of the process has no moves; a state always has one, if only to wait")
        found.append((index[state], moves))
        for move in moves:
            if abs(sum(chance for chance, _ in move.leads) - 1) > 1e-9:
                raise ValueError(f"state {state!r}: the chances of {move!r} do not sum to 1")
            for _, after in move.leads:
                if after not in index:
                    index[after] = len(index)
                    queue.append(after)
    most = max(len(moves) for _, moves in found)
    chances = np.zeros((most, len(index), len(index)))
    units = np.zeros((most, len(index)), dtype=np.int64)
    for row, moves in found:
        for k in range(most):
            move = moves[min(k, len(moves) - 1)]
            units[k, row] = move.units
            for chance, after in move.leads:
                chances[k, row, index[after]] += chance
    return Model(tuple(index), chances, units)


def attainable(model: Model[State], goal: Goal) -> NDArray[np.float64]:
    """The expected utility of the best policy for `goal` from each state, shape [states], in [0, 1].

    Backward induction over (state, work still to be done). Raises `ValueError` for a goal without work or time.
    """
    if goal.units < 1 or goal.turns < 1:
        raise ValueError(f"{goal}: a goal needs at least one unit of work and one turn")
    left = np.arange(goal.units + 1)
    value = np.broadcast_to(1 - left / goal.units, (len(model.states), goal.units + 1))
    after = np.maximum(left - model.units[..., None], 0)
    """Work left after each move, shape [moves, states, work left before it]."""
    for _ in range(goal.turns):
        value = np.take_along_axis(model.chances @ value, after, axis=2).max(axis=0)
    return value[:, goal.units]


def utilities(start: State, process: Process[State], bank: Sequence[Goal]) -> dict[State, tuple[float, ...]]:
    """The attainable utility of every goal of the bank, in every state within reach of `start`."""
    model = explore(start, process)
    by_goal = np.array([attainable(model, goal) for goal in bank])
    return {state: tuple(by_goal[:, row].tolist()) for row, state in enumerate(model.states)}


def powers(start: State, process: Process[State], bank: Sequence[Goal]) -> dict[State, float]:
    """Power in every state within reach of `start`: mean attainable utility over the bank, in [0, 1]."""
    model = explore(start, process)
    mean = np.mean([attainable(model, goal) for goal in bank], axis=0)
    return {state: min(1.0, float(value)) for state, value in zip(model.states, mean, strict=True)}
