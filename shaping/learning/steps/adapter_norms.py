"""How much each confined adapter adds to the model, per update, and what happens where one adds too much."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from shaping.hooks import NormAlarm
from shaping.learning.policy import Policy
from shaping.learning.ranks.parallel import Ranks
from shaping.learning.steps.optimizer import GatedOptimizer


class NormAlarmError(RuntimeError):
    """An adapter has grown beyond its alarm, which stops the run."""


class AdapterNorms:
    """Logs `adapter_norm/<name>` = |alpha / rank * B A| in Frobenius norm over all modules, of confined adapters.

    One with a `NormAlarm` also has `norm_alarm/<name>`: 1 in updates after which the norm is above the limit. `rewind`
    then gives the adapter, and what the optimiser keeps for it, the values from before the update: bit for bit, on
    every rank, since adapters are whole on each. All other parameters keep the update.
    """

    def __init__(self, policy: Policy, optimizer: GatedOptimizer, ranks: Ranks) -> None:
        self._policy, self._optimizer, self._ranks = policy, optimizer, ranks
        specs = policy.adapters.specs.values()
        self._names = [spec.name for spec in specs if spec.subspace is not None or spec.alarm is not None]
        self._alarms: Mapping[str, NormAlarm] = {spec.name: spec.alarm for spec in specs if spec.alarm is not None}
        self._before: dict[nn.Parameter, tuple[Tensor, Any]] = {}

    @torch.no_grad()
    def remember(self) -> None:
        """Call it before an update."""
        names = [name for name, alarm in self._alarms.items() if alarm.action == "rewind"]
        parameters = [p for name in names for p in self._policy.adapters.matrices(name)]
        self._before = {p: (p.detach().clone(), self._optimizer.state_of(p)) for p in parameters}

    @torch.no_grad()
    def measure(self) -> dict[str, float]:
        """The metrics of an update. All ranks must call it together. Raises: `NormAlarmError`."""
        found: dict[str, float] = {}
        for name in self._names:
            own = self._policy.adapters.norm(name) if self._ranks.rank == 0 else 0.0
            norm = self._ranks.total({"norm": own})["norm"]  # rank 0's: all ranks must come to one decision
            found[f"adapter_norm/{name}"] = norm
            if (alarm := self._alarms.get(name)) is None:
                continue
            loud = not norm <= alarm.limit
            found[f"norm_alarm/{name}"] = float(loud)
            if loud and alarm.action == "stop":
                raise NormAlarmError(_message(name, norm, alarm))
            if loud and alarm.action == "rewind":
                for parameter in self._policy.adapters.matrices(name):
                    weights, moments = self._before[parameter]
                    parameter.copy_(weights)
                    self._optimizer.restore(parameter, moments)
        return found


def _message(name: str, norm: float, alarm: NormAlarm) -> str:
    size = "not finite" if not math.isfinite(norm) else f"{norm:.4g}"
    return (
        f"adapter {name!r} has a norm of {size}, above its alarm of {alarm.limit:g}: something in these worlds rewards "
        "what it is confined to. Look at the last episodes, mend the world or the reward, and start again from a "
        "checkpoint; or raise the alarm, or record alarms only"
    )
