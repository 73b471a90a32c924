"""Placement groups: the cores and GPUs of a run, reserved all at once.

Two runs that each held half of what they need would wait for each other for ever.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import ray
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from launch.config.study import RunConfig
from launch.config.train import LearnerGroupConfig
from launch.distributed.needs import Node, PlacementError, bundles, needs, shortage

PATIENCE = 5.0
"""Seconds of waiting after which the log mentions the wait."""
POLL = 0.5
"""Seconds between two looks at the placement group."""


@contextlib.contextmanager
def worker_placements(run: RunConfig, log: Callable[[str], None]) -> Iterator[list[PlacementGroupSchedulingStrategy]]:
    """One placement per rollout worker, in the study's placement group for the run, or else in a new one.

    Raises `PlacementError` if the cluster is too small, or busy for `rollout.stage_timeout` seconds.
    """
    nodes = living()
    workers = needs(run, nodes)[1 : 1 + run.rollout.workers]
    group = ray.util.get_current_placement_group()
    if group is not None and len(group.bundle_specs) == len(bundles(run, nodes)):
        yield [placement(group, number + 1) for number in range(len(workers))]
        return
    if missing := shortage(workers, nodes):
        raise PlacementError(f"no room for {run.rollout.workers} rollout workers: {missing}")
    group = placement_group([worker.bundle for worker in workers], strategy="PACK")
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
        yield [placement(group, number) for number in range(len(workers))]
    finally:
        remove_placement_group(group)


def reserve(run: RunConfig) -> tuple[PlacementGroup | None, dict[str, Any]]:
    """A placement group for a run and its processes, None if the run has only one, and the options of the run's task.

    Tasks that are submitted to the group wait until it is ready. One with a GPU goes to a node that has one.
    """
    wanted = bundles(run, living())
    options: dict[str, Any] = {"num_gpus": wanted[0].get("GPU", 0.0)}
    if len(wanted) == 1:
        return None, options
    group = placement_group(wanted, strategy="PACK")
    return group, {**options, "scheduling_strategy": placement(group, 0)}


def release(group: PlacementGroup | None) -> None:
    """Remove the placement group of a run, if it has one."""
    if group is not None:
        remove_placement_group(group)


def placement(group: PlacementGroup, number: int) -> PlacementGroupSchedulingStrategy:
    """The bundle `number` of a placement group."""
    return PlacementGroupSchedulingStrategy(
        group, placement_group_bundle_index=number, placement_group_capture_child_tasks=True
    )


def living() -> list[Node]:
    """The resources of every living node."""
    return [dict(node["Resources"]) for node in ray.nodes() if node["Alive"]]


@contextlib.contextmanager
def rank_placements(run: RunConfig, log: Callable[[str], None]) -> Iterator[list[PlacementGroupSchedulingStrategy]]:
    """One placement per learner rank, in the study's placement group for the run, or else in a new one.

    Raises `PlacementError` after `train.learner_group.placement_timeout` seconds.
    """
    config = run.train.learner_group
    group = ray.util.get_current_placement_group()
    if group is not None and config.nodes == "pack" and len(group.bundle_specs) == len(bundles(run, living())):
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
