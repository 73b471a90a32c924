"""What the run must know of a plug-in that it cannot see: its class, its hooks, and the monitors that it reads."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from launch.errors import UserError
from rewards.base import Reward
from shaping.intervention import Constraint, Intervention, Shaper
from shaping.monitors.reachable import reachable_monitors

VALUES = (
    *("sampling_context", "training_context", "episode_context", "prefill", "edits", "captures", "adapters"),
    *("ratio_mode", "credit", "gates", "readings", "state_dict", "load_state_dict", "after_update", "allow", "cost"),
    *("cost_group", "screen", "rehearse", "untested"),
)
"""Hooks that take values and answer with values."""
LIVE = ("auxiliary_loss", "refresh", "deploy", "prepare")
"""Hooks that take the policy itself or the model's files, which are not in the isolated process."""


def describe(plugin: BaseModel) -> dict[str, Any]:
    """Plain data. Raises `UserError` if the plug-in needs what an isolated process does not have."""
    name = type(plugin).__name__
    described: dict[str, Any] = {"name": name, "monitors": _monitors(plugin)}
    if isinstance(plugin, Reward) and _differs(type(plugin), Reward, "between"):
        raise UserError(
            f"{name} overrides between(), which is shown all groups of an update: it cannot run isolated. Run the "
            "study without --isolated if you trust the plug-in"
        )
    if not isinstance(plugin, Intervention):
        return described
    base = Constraint if isinstance(plugin, Constraint) else Shaper
    overridden = [hook for hook in (*VALUES, *LIVE) if _differs(type(plugin), base, hook)]
    if live := [f"{hook}()" for hook in overridden if hook in LIVE]:
        raise UserError(
            f"{name} overrides {' and '.join(live)}, which takes the policy or its files: it cannot run isolated. Run "
            "the study without --isolated if you trust the plug-in"
        )
    if plugin.reads_truth:
        raise UserError(f"{name} declares oracle: it reads sealed labels, which an isolated plug-in is not given")
    if isinstance(plugin, Constraint) and type(plugin).pricing is not Constraint.pricing:
        raise UserError(
            f"{name} defines `pricing`, which changes in training: an isolated plug-in has its weight alone"
        )
    return described | {
        "oracle": plugin.knows_truth,
        "base": base.__name__,
        "owns": sorted(plugin.owns),
        "hooks": overridden,
        "weight": float(plugin.weight) if isinstance(plugin, Constraint) else None,
    }


def _differs(kind: type, base: type, hook: str) -> bool:
    return getattr(kind, hook, None) is not getattr(base, hook, None)


def _monitors(plugin: BaseModel) -> list[dict[str, Any]]:
    """The monitors that the plug-in can reach: whoever measures with one of them must know."""
    return [
        {
            "module": type(monitor).__module__,
            "kind": type(monitor).__qualname__,
            "name": monitor.name,
            "fields": monitor.model_dump_json(),
        }
        for monitor in reachable_monitors([plugin])
    ]
