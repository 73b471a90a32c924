"""A GPU that a process outside of Ray takes out of Ray's hands, before Ray gives it to an actor."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from launch.config.study import RunConfig
from launch.distributed.local import joined_ray
from launch.distributed.needs import PlacementError, check_room
from launch.distributed.placement import living


class Holder:
    """Has a GPU of its node for as long as it lives, and does not touch it."""

    def held(self) -> list[str]:
        """Ray's names of what it has."""
        return [str(number) for number in ray.get_gpu_ids()]


@contextlib.contextmanager
def held_gpu(run: RunConfig) -> Iterator[int]:
    """Number of a GPU of this machine that Ray gives to nobody else, in whose other shares the run's actors may be.

    Starts a local Ray, or joins the one that RAY_ADDRESS names, if there is none. Raises `PlacementError` if the run's
    processes need more than there is, or if all GPUs of this machine are in use.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(joined_ray())
        check_room([run], living(), own_cpus=0.0)
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        actor = ray.remote(Holder).options(num_cpus=0, num_gpus=run.train.gpus, scheduling_strategy=here).remote()
        stack.callback(ray.kill, actor)
        try:
            held: list[str] = ray.get(actor.held.remote(), timeout=run.rollout.stage_timeout)
        except (ray.exceptions.GetTimeoutError, ray.exceptions.ActorUnschedulableError) as error:
            raise PlacementError(
                f"no GPU of this machine has {run.train.gpus:g} left for the run itself (train.gpus), within "
                f"{run.rollout.stage_timeout:g} s (rollout.stage_timeout): others use them. Set train.device to cpu, "
                "or wait for them"
            ) from error
        yield index_of(held[0])


def index_of(identity: str) -> int:
    """The number by which torch knows a GPU, from Ray's: that of the machine, of those that this process may see."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return visible.split(",").index(identity) if visible else int(identity)
