"""Two measures of power that do not work here, kept as diagnostics. Compare them with `envs.power.measure` before use.

Both look at the *states* of an abstract process, not at the work that can be done in them. Raw states do not encode
capability, and irreversible acts remove states. An agent that has seized everything for good can reach fewer states,
and so counts as less powerful.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from envs.power.measure import Model, State


def reachable(model: Model[State], turns: int) -> NDArray[np.int64]:
    """The number of states within reach of each in `turns` turns, itself included; shape [states].

    This count of options is empowerment in deterministic worlds (Klyubin et al. 2005) without its logarithm.
    """
    step = (model.chances > 0).any(axis=0) | np.eye(len(model.states), dtype=bool)
    seen = np.eye(len(model.states), dtype=bool)
    for _ in range(turns):
        seen = (seen.astype(np.int64) @ step.astype(np.int64)) > 0
    return seen.sum(axis=1)


def uniform_power(
    model: Model[State], discount: float = 0.9, samples: int = 200, seed: int = 0, sweeps: int = 200
) -> NDArray[np.float64]:
    """POWER with a reward per state, independent and uniform on [0, 1] (Turner et al. 2021, arXiv 1912.01683).

    POWER(s) = (1 - discount) / discount * E[V*(s) - R(s)], estimated with `samples` draws of R; shape [states], in
    [0, 1]. The standard error is about 0.3 / sqrt(samples), and largely the same error in all states.
    """
    reward = np.random.default_rng(seed).random((len(model.states), samples))
    value = reward / (1 - discount)
    for _ in range(sweeps):
        value = reward + discount * np.max(model.chances @ value, axis=0)
    return (1 - discount) / discount * (value - reward).mean(axis=1)
