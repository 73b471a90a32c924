"""Axes of a study: every combination of their values is one sweep point. Pure functions.

Points are named sweep points for chosen arms, where a product of axes would hold runs that nobody asks for: a star
around one setting, or one study with several worlds.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

SWEEPABLE = ("train", "learner", "rollout", "eval", "model", "arms", "seats", "stages")
"""Top-level keys under which an axis may lie."""

OF_ARMS = ("train", "learner", "rollout", "eval", "stages", "seats", "model")
"""Those of them that one arm may set for itself."""

POINT = "point"
"""The name under which reports list the points, as if they were the values of one axis."""


class Point(BaseModel):
    """Keys that some arms are given together: `{set: {train.worlds.steward.honest_share: 0.5}, arms: [unshaped]}`."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    set: dict[str, Any] = Field({}, description="dotted key -> value; `train.worlds` replaces all worlds")
    arms: list[str] = Field([], description="arms that run here, the reference among them; none: all")


def keys_of(axis: str) -> list[str]:
    """The keys of an axis, which are separated by commas and get the same value."""
    return [key.strip() for key in axis.split(",")]


def applies_to(axis: str, arm: str) -> bool:
    """Does an axis apply to an arm? An axis whose keys all lie under `arms` applies only to those arms."""
    arms = [key.split(".")[1] if key.startswith("arms.") and key.count(".") else None for key in keys_of(axis)]
    return arm in arms or None in arms


def sweep_points(axes: Mapping[str, Sequence[Any]], arm: str) -> list[dict[str, Any]]:
    """Every combination of the axes that apply to an arm, as {axis: value}; without axes one empty sweep point."""
    applying = [axis for axis in axes if applies_to(axis, arm)]
    combinations = itertools.product(*(axes[axis] for axis in applying))
    return [dict(zip(applying, values, strict=True)) for values in combinations]


def points_of(points: Mapping[str, Point], arm: str) -> list[str]:
    """Names of the points at which an arm runs."""
    return [name for name, point in points.items() if not point.arms or arm in point.arms]


def arm_of(point_name: str) -> str:
    """The arm's key in `<arm>[+axis=value...]`: a combination of arms (`prompt+routing`) has a + of its own."""
    return "+".join(part for part in point_name.split("+") if "=" not in part)


def short_names(axes: Sequence[str]) -> dict[str, str]:
    """Axis -> the shortest ending of its first key that no other axis has: `honest_share`, `accuracy`."""
    first = {axis: keys_of(axis)[0].split(".") for axis in axes}
    names: dict[str, str] = {}
    for axis, parts in first.items():
        for length in range(1, len(parts) + 1):
            ending = parts[-length:]
            if not any(other != axis and theirs[-length:] == ending for other, theirs in first.items()):
                break
        names[axis] = ".".join(parts[-length:])
    return names


def slug(value: Any) -> str:
    """A value as part of a directory name."""
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-.")[:40] or "empty"
