"""Room on the cluster for processes that must all run at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import ray
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group

from launch.config import LearnersConfig
from launch.errors import UserError

PATIENCE = 5.0
"""Seconds of waiting before the run's log hears of it."""


class NoRoomError(UserError):
    """The cluster has no room for what a run needs at once."""


def reserve(config: LearnersConfig, name: str, tell: Callable[[str], None]) -> PlacementGroup:
    """A bundle for each rank, all or none. Raises `NoRoomError` after `config.room` seconds.

    What an attempt of this `name` that was killed may have left behind is given back first. It is worth waiting where
    the cluster is too small: an autoscaler sees the demand.
    """
    release(_left_behind(name))
    bundle = {"CPU": config.cpus} | ({"GPU": config.gpus} if config.gpus else {})
    group = placement_group([bundle] * config.ranks, strategy=config.nodes.upper(), name=name)
    patience = min(PATIENCE, config.room / 2)
    if not group.wait(patience):
        tell(f"the learner group waits for room: {_shortage(config)}")
        if not group.wait(config.room - patience):
            release(group)
            raise NoRoomError(
                f"no room for the learner group within {config.room:g} s: {_shortage(config)}. Lower "
                "train.learners.ranks, cpus or gpus, give the cluster more, or raise train.learners.room"
            )
    return group


def release(group: PlacementGroup | None) -> None:
    if group is not None:
        remove_placement_group(group)


def _left_behind(name: str) -> PlacementGroup | None:
    try:
        return ray.util.get_placement_group(name)
    except ValueError:
        return None


def _shortage(config: LearnersConfig) -> str:
    """What is wanted, and what there is."""
    wanted = _amounts({"CPU": config.cpus * config.ranks, "GPU": config.gpus * config.ranks})
    there, free = ray.cluster_resources(), ray.available_resources()
    return (
        f"{config.ranks} ranks want {wanted}; the cluster has {_amounts(there)} on {_nodes()}, of which "
        f"{_amounts(free)} are free"
    )


def _amounts(resources: Mapping[str, Any]) -> str:
    cpus, gpus = float(resources.get("CPU", 0)), float(resources.get("GPU", 0))
    return f"{cpus:g} CPUs" + (f" and {gpus:g} GPUs" if gpus else "")


def _nodes() -> str:
    alive = sum(node["Alive"] for node in ray.nodes())
    return f"{alive} node{'s' if alive > 1 else ''}"
