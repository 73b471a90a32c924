"""Placement groups: the cores and GPUs of a run, reserved all at once.

Two runs that each held half of what they need would wait for each other for ever.
"""

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

PATIENCE = 5.0
"""Seconds of waiting after which the log mentions the wait."""
POLL = 0.5
"""Seconds between two looks at the placement group."""


class PlacementError(UserError):
    """The cluster lacks the cores or GPUs that a run needs at the same time."""


@contextlib.contextmanager
def worker_placements(run: RunConfig, log: Callable[[str], None]) -> Iterator[list[PlacementGroupSchedulingStrategy]]:
    """One placement per rollout worker, in the study's placement group for the run, or else in a new one.

    Raises `PlacementError` if the cluster is too small, or busy for `rollout.stage_timeout` seconds.
    """
    wanted = bundles(run)[1 : 1 + run.rollout.workers]
    group = ray.util.get_current_placement_group()
    if group is not None and len(group.bundle_specs) == len(bundles(run)):
        yield [placement(group, number + 1) for number in range(len(wanted))]
        return
    if missing := shortage(wanted):
        raise PlacementError(f"no room for {run.rollout.workers} rollout workers: {missing}")
    group = placement_group(wanted, strategy="PACK")
    try:
        deadline = time.monotonic() + run.rollout.stage_timeout
        if not group.wait(PATIENCE):
            log(f"{run.rollout.workers} rollout workers wait for room on the cluster: others use it now")
        while not group.wait(POLL):
            if time.monotonic() > deadline:
                raise PlacementError(
                    f"no room for {run.rollout.workers} rollout workers within {run.rollout.stage_timeout:.0f} s "
                    "(rollout.stage_timeout): others use the cluster"
                )
        yield [placement(group, number) for number in range(len(wanted))]
    finally:
        remove_placement_group(group)


def reserve(run: RunConfig) -> PlacementGroup | None:
    """A placement group for a run and its processes, or None if the run has only one process.

    Tasks that are submitted to the group wait until it is ready.
    """
    wanted = bundles(run)
    return placement_group(wanted, strategy="PACK") if len(wanted) > 1 else None


def release(group: PlacementGroup | None) -> None:
    """Remove the placement group of a run, if it has one."""
    if group is not None:
        remove_placement_group(group)


def placement(group: PlacementGroup, number: int) -> PlacementGroupSchedulingStrategy:
    """The bundle `number` of a placement group."""
    return PlacementGroupSchedulingStrategy(
        group, placement_group_bundle_index=number, placement_group_capture_child_tasks=True
    )


def shortage(wanted: Sequence[dict[str, float]]) -> str:
    """Say what the cluster lacks even when it is idle; empty if all bundles fit."""
    nodes = [dict[str, Any](node["Resources"]) for node in ray.nodes() if node["Alive"]]
    for kind in ("CPU", "GPU"):
        needed = sum(bundle.get(kind, 0.0) for bundle in wanted)
        available = sum(node.get(kind, 0.0) for node in nodes)
        if needed > available:
            return (
                f"{needed:g} {kind}s are needed ({_sum_of(wanted, kind)}), and the cluster has {available:g}. Lower "
                f"rollout.workers, train.learner_group.ranks or their {kind.lower()}s, or use a larger cluster (--cpus "
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


def _sum_of(wanted: Sequence[dict[str, float]], kind: str) -> str:
    return " + ".join(f"{bundle.get(kind, 0.0):g}" for bundle in wanted if bundle.get(kind))


def bundles(run: RunConfig) -> list[dict[str, float]]:
    """The resources of a run's processes: the run itself, then each rollout worker, then each learner rank.

    Learner ranks are left out with `nodes: spread`: they have a placement group of their own. A worker without cores
    gets a sliver of one.
    """
    rollout, learner_group = run.rollout, run.train.learner_group
    worker = {"CPU": rollout.cpus or 0.01} | ({"GPU": rollout.gpus} if rollout.gpus else {})
    ranks = learner_group.bundles() if learner_group.nodes == "pack" else []
    return [{"CPU": 1.0}, *([worker] * rollout.workers), *ranks]


@contextlib.contextmanager
def rank_placements(run: RunConfig, log: Callable[[str], None]) -> Iterator[list[PlacementGroupSchedulingStrategy]]:
    """One placement per learner rank, in the study's placement group for the run, or else in a new one.

    Raises `PlacementError` after `train.learner_group.placement_timeout` seconds.
    """
    config = run.train.learner_group
    group = ray.util.get_current_placement_group()
    if group is not None and config.nodes == "pack" and len(group.bundle_specs) == len(bundles(run)):
        yield [placement(group, len(group.bundle_specs) - config.ranks + rank) for rank in range(config.ranks)]
        return
    group = _reserve_ranks(config, f"learners of {run.directory_name}", log)
    try:
        yield [placement(group, rank) for rank in range(config.ranks)]
    finally:
        remove_placement_group(group)


def _reserve_ranks(config: LearnerGroupConfig, name: str, log: Callable[[str], None]) -> PlacementGroup:
    """Wait for a placement group, so that an autoscaler sees the demand. Raises `PlacementError` when time is up."""
    with contextlib.suppress(ValueError):  # Ray keeps the group of a killed process until the job ends: remove it
        remove_placement_group(ray.util.get_placement_group(name))
    group = placement_group(config.bundles(), strategy=config.nodes.upper(), name=name)
    started, mentioned = time.monotonic(), False
    while not group.wait(1):  # an interrupt has to wait for this call: keep it short
        waited = time.monotonic() - started
        if waited > PATIENCE and not mentioned:
            mentioned = True
            log(f"the learner group waits for room: {_demand(config)}")
        if waited > config.placement_timeout:
            remove_placement_group(group)
            raise PlacementError(
                f"no room for the learner group within {config.placement_timeout:g} s: {_demand(config)}. Lower "
                "train.learner_group.ranks, cpus or gpus, enlarge the cluster, or raise "
                "train.learner_group.placement_timeout"
            )
    return group


def _demand(config: LearnerGroupConfig) -> str:
    """The demand of the ranks, and the resources of the cluster."""
    wanted = _amounts({"CPU": config.cpus * config.ranks, "GPU": config.gpus * config.ranks})
    total, free = _amounts(ray.cluster_resources()), _amounts(ray.available_resources())
    nodes = sum(node["Alive"] for node in ray.nodes())
    plural = "s" if nodes > 1 else ""
    return f"{config.ranks} ranks want {wanted}; the cluster has {total} on {nodes} node{plural}, of which {free} free"


def _amounts(resources: Mapping[str, Any]) -> str:
    cpus, gpus = float(resources.get("CPU", 0)), float(resources.get("GPU", 0))
    return f"{cpus:g} CPUs" + (f" and {gpus:g} GPUs" if gpus else "")
