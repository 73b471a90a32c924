"""Room on the cluster for the ranks of a learner group, which must all run at once."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import ray
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from launch.config import LearnersConfig, RunConfig
from launch.rollout_config import bundles
from launch.seats import NoRoomError, seat

PATIENCE = 5.0
"""Seconds of waiting before the run's log hears of it."""


@contextlib.contextmanager
def rank_seats(run: RunConfig, tell: Callable[[str], None]) -> Iterator[list[PlacementGroupSchedulingStrategy]]:
    """One place per rank, in the room that a study has reserved for the run, or in room of our own."""
    config = run.train.learners
    room = ray.util.get_current_placement_group()
    if room is not None and config.nodes == "pack" and len(room.bundle_specs) == len(bundles(run)):
        yield [seat(room, len(room.bundle_specs) - config.ranks + rank) for rank in range(config.ranks)]
        return
    room = _reserve(config, f"learners of {run.directory_name}", tell)
    try:
        yield [seat(room, rank) for rank in range(config.ranks)]
    finally:
        remove_placement_group(room)


def _reserve(config: LearnersConfig, name: str, tell: Callable[[str], None]) -> PlacementGroup:
    """Raises `NoRoomError` after `config.room` seconds; until then an autoscaler sees what is needed."""
    with contextlib.suppress(ValueError):  # of a try whose process was killed, which Ray keeps until the job ends
        remove_placement_group(ray.util.get_placement_group(name))
    room = placement_group(config.bundles(), strategy=config.nodes.upper(), name=name)
    started, told = time.monotonic(), False
    while not room.wait(1):  # in whole seconds, which an interrupt has to wait for
        waited = time.monotonic() - started
        if waited > PATIENCE and not told:
            told = True
            tell(f"the learner group waits for room: {_shortage(config)}")
        if waited > config.room:
            remove_placement_group(room)
            raise NoRoomError(
                f"no room for the learner group within {config.room:g} s: {_shortage(config)}. Lower "
                "train.learners.ranks, cpus or gpus, give the cluster more, or raise train.learners.room"
            )
    return room


def _shortage(config: LearnersConfig) -> str:
    """What is wanted, and what there is."""
    wanted = _amounts({"CPU": config.cpus * config.ranks, "GPU": config.gpus * config.ranks})
    there, free = _amounts(ray.cluster_resources()), _amounts(ray.available_resources())
    nodes = sum(node["Alive"] for node in ray.nodes())
    plural = "s" if nodes > 1 else ""
    return f"{config.ranks} ranks want {wanted}; the cluster has {there} on {nodes} node{plural}, of which {free} free"


def _amounts(resources: Mapping[str, Any]) -> str:
    cpus, gpus = float(resources.get("CPU", 0)), float(resources.get("GPU", 0))
    return f"{cpus:g} CPUs" + (f" and {gpus:g} GPUs" if gpus else "")
