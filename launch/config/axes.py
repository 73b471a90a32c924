"""Axes of a study: every combination of their values is one sweep_point. Pure functions."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

SWEEPABLE = ("train", "learner", "rollout", "eval", "model", "arms")


def keys_of(axis: str) -> list[str]:
    """An axis may set several keys at once: they are separated by commas and get the same value."""
    return [key.strip() for key in axis.split(",")]


def applies_to(axis: str, arm: str) -> bool:
    """An axis whose keys all lie under arms multiplies only those arms."""
    arms = [key.split(".")[1] if key.startswith("arms.") and key.count(".") else None for key in keys_of(axis)]
    return arm in arms or None in arms


def sweep_points(axes: Mapping[str, Sequence[Any]], arm: str) -> list[dict[str, Any]]:
    """Every combination of the axes that apply to an arm, as {axis: value}; one empty sweep_point without axes."""
    own = [axis for axis in axes if applies_to(axis, arm)]
    return [dict(zip(own, values, strict=True)) for values in itertools.product(*(axes[axis] for axis in own))]


def short_names(axes: Sequence[str]) -> dict[str, str]:
    """The shortest ending of each axis's first key that no other axis shares: `honest_path`, `accuracy`."""
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
