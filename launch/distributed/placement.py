"""Cores and GPUs for the workers of a run, all or none: two runs that each have half of theirs would wait for ever."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import ray
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from launch.config.study import LearnerGroupConfig, RunConfig
from launch.errors import UserError

PATIENCE, LOOK = 5.0, 0.5
"""Seconds before the wait for room is mentioned, and between two looks at the cluster."""


class NoRoomError(UserError):
    """The cluster has no room for what a run needs at once."""


@contextlib.contextmanager
def placements(run: RunConfig, tell: Callable[[str], None]) -> Iterator[list[PlacementGroupSchedulingStrategy]]:
    """One place per rollout worker, in the room that a study has reserved for the run, or in room of our own."""
    wanted = bundles(run)[1 : 1 + run.rollout.workers]
    room = ray.util.get_current_placement_group()
    if room is not None and len(room.bundle_specs) == len(bundles(run)):
        yield [placement(room, number + 1) for number in range(len(wanted))]
        return
    if missing := shortage(wanted):
        raise NoRoomError(f"no room for {run.rollout.workers} rollout workers: {missing}")
    room = placement_group(wanted, strategy="PACK")
    try:
        deadline = time.monotonic() + run.rollout.stage_timeout
        if not room.wait(PATIENCE):
            tell(f"{run.rollout.workers} rollout workers wait for room on the cluster, which others use now")
        while not room.wait(LOOK):
            if time.monotonic() > deadline:
                raise NoRoomError(
                    f"no room for {run.rollout.workers} rollout workers within {run.rollout.stage_timeout:.0f} s "
                    "(rollout.stage_timeout): others use the cluster"
                )
        yield [placement(room, number) for number in range(len(wanted))]
    finally:
        remove_placement_group(room)


def reserve(run: RunConfig) -> PlacementGroup | None:
    """Room for a run and its processes; what is submitted to it waits until it is there. None: it has no others."""
    wanted = bundles(run)
    return placement_group(wanted, strategy="PACK") if len(wanted) > 1 else None


def release(room: PlacementGroup | None) -> None:
    if room is not None:
        remove_placement_group(room)


def placement(room: PlacementGroup, number: int) -> PlacementGroupSchedulingStrategy:
    return PlacementGroupSchedulingStrategy(
        room, placement_group_bundle_index=number, placement_group_capture_child_tasks=True
    )


def shortage(wanted: Sequence[dict[str, float]]) -> str:
    """What the nodes of the cluster lack, even when nobody else uses them; empty if it all fits."""
    nodes = [dict[str, Any](node["Resources"]) for node in ray.nodes() if node["Alive"]]
    for kind in ("CPU", "GPU"):
        needed = sum(bundle.get(kind, 0.0) for bundle in wanted)
        there = sum(node.get(kind, 0.0) for node in nodes)
        if needed > there:
            return (
                f"{needed:g} {kind}s are needed ({_parts(wanted, kind)}), and the cluster has {there:g}. Lower "
                f"rollout.workers, train.learner_group.ranks or their {kind.lower()}s, or use a larger one (--cpus "
                "for a local Ray)"
            )
    free = [dict(node) for node in nodes]
    for bundle in sorted(wanted, key=lambda b: (b.get("GPU", 0.0), b.get("CPU", 0.0)), reverse=True):
        fits = [node for node in free if all(node.get(kind, 0.0) >= amount for kind, amount in bundle.items())]
        if not fits:
            largest = max(node.get("CPU", 0.0) for node in nodes)
            return (
                f"one process needs {bundle}, which no node has left (the largest has {largest:g} CPUs). Lower what "
                "rollout or train.learner_group reserve"
            )
        for kind, amount in bundle.items():
            fits[0][kind] -= amount
    return ""


def _parts(wanted: Sequence[dict[str, float]], kind: str) -> str:
    return " + ".join(f"{bundle.get(kind, 0.0):g}" for bundle in wanted if bundle.get(kind))


def bundles(run: RunConfig) -> list[dict[str, float]]:
    """What a run needs of a cluster at once: itself, then each worker, then each learner rank that may be beside them.

    Workers without cores need a sliver.
    """
    rollout, learners = run.rollout, run.train.learner_group
    worker = {"CPU": rollout.cpus or 0.01} | ({"GPU": rollout.gpus} if rollout.gpus else {})
    ranks = learners.bundles() if learners.nodes == "pack" else []
    return [{"CPU": 1.0}, *([worker] * rollout.workers), *ranks]


@contextlib.contextmanager
def rank_placements(run: RunConfig, tell: Callable[[str], None]) -> Iterator[list[PlacementGroupSchedulingStrategy]]:
    """One place per rank, in the room that a study has reserved for the run, or in room of our own."""
    config = run.train.learner_group
    room = ray.util.get_current_placement_group()
    if room is not None and config.nodes == "pack" and len(room.bundle_specs) == len(bundles(run)):
        yield [placement(room, len(room.bundle_specs) - config.ranks + rank) for rank in range(config.ranks)]
        return
    room = _reserve(config, f"learners of {run.directory_name}", tell)
    try:
        yield [placement(room, rank) for rank in range(config.ranks)]
    finally:
        remove_placement_group(room)


def _reserve(config: LearnerGroupConfig, name: str, tell: Callable[[str], None]) -> PlacementGroup:
    """Raises `NoRoomError` after `config.placement_timeout` seconds; until then an autoscaler sees what is needed."""
    with contextlib.suppress(ValueError):  # of a try whose process was killed, which Ray keeps until the job ends
        remove_placement_group(ray.util.get_placement_group(name))
    room = placement_group(config.bundles(), strategy=config.nodes.upper(), name=name)
    started, told = time.monotonic(), False
    while not room.wait(1):  # in whole seconds, which an interrupt has to wait for
        waited = time.monotonic() - started
        if waited > PATIENCE and not told:
            told = True
            tell(f"the learner group waits for room: {_shortage(config)}")
        if waited > config.placement_timeout:
            remove_placement_group(room)
            raise NoRoomError(
                f"no room for the learner group within {config.placement_timeout:g} s: {_shortage(config)}. Lower "
                "train.learner_group.ranks, cpus or gpus, give the cluster more, or raise "
                "train.learner_group.placement_timeout"
            )
    return room


def _shortage(config: LearnerGroupConfig) -> str:
    """What is wanted, and what there is."""
    wanted = _amounts({"CPU": config.cpus * config.ranks, "GPU": config.gpus * config.ranks})
    there, free = _amounts(ray.cluster_resources()), _amounts(ray.available_resources())
    nodes = sum(node["Alive"] for node in ray.nodes())
    plural = "s" if nodes > 1 else ""
    return f"{config.ranks} ranks want {wanted}; the cluster has {there} on {nodes} node{plural}, of which {free} free"


def _amounts(resources: Mapping[str, Any]) -> str:
    cpus, gpus = float(resources.get("CPU", 0)), float(resources.get("GPU", 0))
    return f"{cpus:g} CPUs" + (f" and {gpus:g} GPUs" if gpus else "")
