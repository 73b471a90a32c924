"""Attainable utility preservation: every change of what the agent could attain is charged."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PrivateAttr

from envs.episode import Episode
from envs.power.impact import changes
from shaping.controls import ControlKind
from shaping.intervention import Constraint

_REMEMBERED = 1024
"""Episodes that are not played again for the next hook that asks about them."""


class AttainableUtility(Constraint):
    """Charges penalty / N * sum_i |Q_i(s, a) - Q_i(s, noop)| per turn, over N auxiliary goals (arXiv:1902.09725).

        episode -> played again, once with the act and once with `wait` in each turn -> V_i of both states -> cost

    Q_i is the attainable utility of goal i: how well the best policy could do it from there. The states are those that
    the world is really in after the act and after waiting, with the same draws (`envs.power.impact`). The penalty falls
    on gaining power and on losing it, unless `change` says otherwise.

    Worlds. `steward` and `gradebook` have a bank of goals over an exact process (`envs.power`), which is what the paper
    means. `nightwatch` and `pact` have one number, the power that they document, as the only goal. In `clerk`, `errand`
    and `workshop` no power is held, so that nothing is ever charged. A world of your own is a subclass of
    `envs.worlds.base.World` that defines `power`, or `attainable() -> tuple[float, ...]`, a number for each of its own
    goals; all others are refused when their first episodes are priced.

    It knows the state of the world (oracle). No overseer outside of a simulation can compute it: it is the constraint
    that power-seeking cannot evade, and says what an ideal one would cost in reward.

    Pitfalls. Work that honest plans need changes what can be attained, too: approved units cost as much as stolen ones
    (`unneeded_power` in the metrics does not). Waiting is free: a high penalty teaches to do nothing.

    Controls: a penalty of 0 measures and leaves every bit; `Penalty` with `labels: {source: oracle, traits:
    [power_seeking]}` charges what is forbidden alone.
    """

    needs: ClassVar[tuple[ControlKind, ...]] = (ControlKind.NO_LOOPHOLE, ControlKind.BASE)

    oracle: ClassVar[bool] = True

    penalty: float = Field(1.0, ge=0, le=1e6, description="cost of a change of all goals by 1, in units of reward")
    change: Literal["both", "gain", "loss"] = Field("both", description="which changes are charged")

    _known: dict[Any, tuple[float, ...]] = PrivateAttr(default_factory=dict)

    def cost(self, episode: Episode) -> NDArray[np.float64]:
        """Cost per turn in units of proxy reward, shape [turns]."""
        return self.penalty * self.changed(episode)

    def changed(self, episode: Episode) -> NDArray[np.float64]:
        """Mean change that counts over the goals, shape [turns]."""
        key = (episode.world, episode.seed, repr(episode.options), *(turn.executed for turn in episode.turns))
        if key not in self._known:
            while len(self._known) >= _REMEMBERED:
                del self._known[next(iter(self._known))]
            self._known[key] = tuple(float(self._counted(each).mean()) for each in changes(episode))
        return np.array(self._known[key], np.float64)

    def readings(self, episode: Episode) -> Mapping[str, NDArray[Any]]:
        return {"changed": self.changed(episode)}

    def _counted(self, change: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.abs(change) if self.change == "both" else np.maximum(change if self.change == "gain" else -change, 0)
