"""Interventions look at the policy between updates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np
import torch.distributed as dist

from envs.calls import call
from shaping.hooks import InterventionError
from shaping.intervention import Intervention
from shaping.learning.policy import Policy
from shaping.learning.ranks.parallel import RanksError
from shaping.learning.ranks.sharding import release
from shaping.readings import intervention_names


def refreshed(
    interventions: Sequence[Intervention],
    policy: Policy,
    version: int,
    owners: Mapping[int, str] = MappingProxyType({}),
) -> dict[str, float]:
    """Call `refresh` of each. Returns its metrics as `refresh/<intervention>/<metric>`.

    `owners`: `id` of an intervention -> the player whose policy it looks at, where players have their own.

    The mode of the model is afterwards as before. Raises `InterventionError` for an answer that is no mapping of names
    to finite numbers.
    """
    metrics: dict[str, float] = {}
    modes = {module: module.training for module in policy.model.modules()} if interventions else {}
    for name, intervention in zip(intervention_names(interventions), interventions, strict=True):
        through = (RanksError, dist.DistError)
        with policy.playing(owners.get(id(intervention), policy.player)):
            answer = call(InterventionError, intervention, "refresh", policy, version, through=through)
        who = f"{type(intervention).__name__}.refresh()"
        if not isinstance(answer, Mapping):
            raise InterventionError(f"{who} returned {type(answer).__name__}; return a mapping of names to numbers")
        for metric, value in answer.items():
            if not isinstance(value, (int, float)) or not np.isfinite(value):
                raise InterventionError(f"{who}: {metric!r} is {value!r}; return finite numbers")
            metrics[f"refresh/{name}/{metric}"] = float(value)
    for module, training in modes.items():
        module.training = training
    if interventions:
        release(policy.model)
    return metrics
