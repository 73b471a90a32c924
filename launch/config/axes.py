"""Axes of a study: every combination of their values is one sweep point. Pure functions."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

SWEEPABLE = ("train", "learner", "rollout", "eval", "model", "arms")
"""Top-level keys under which an axis may lie."""


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


def short_names(axes: Sequence[str]) -> dict[str, str]:
    """Axis -> the shortest ending of its first key that no other axis has: `honest_path`, `accuracy`."""
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
