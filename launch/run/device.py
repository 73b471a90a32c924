"""The device of a run's own process, which learns, audits and evaluates: the GPU reserved for it, or the CPU.

Ray shows a process all GPUs of its node unless it has reserved some. So a process that reserved none must not look for
one: it would find the first, which another run or a rollout worker has.
"""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Iterator

import torch

from launch.config.study import RunConfig
from launch.distributed.needs import computes_itself
from launch.errors import ConfigError


def local_device(wanted: str, key: str = "train.device") -> str:
    """`auto`, `cpu` or `cuda[:N]` as a device of this process, in which Ray plays no part.

    Raises `ConfigError`, with the name `key`, for a device that torch cannot use here.
    """
    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if not re.fullmatch(r"cpu|cuda(:\d+)?", wanted):
        raise ConfigError(f"{key} is {wanted!r}, which is no device: use auto, cpu, cuda or cuda:1")
    number = int(wanted.partition(":")[2] or 0)
    if wanted.startswith("cuda") and number >= (count := torch.cuda.device_count()):
        raise ConfigError(
            f"{key} is {wanted}, and torch finds {count or 'no'} GPU{'s' * (count > 1)} here: set it to auto or cpu "
            "(`shaping doctor` shows what this machine has)"
        )
    return wanted


@contextlib.contextmanager
def own_device(run: RunConfig) -> Iterator[str]:
    """The device of the run's own process, reserved for as long as the block lasts.

    A task of a study has its GPU already, from its scheduler. A process beside which Ray actors will work for the run
    takes one out of Ray's hands, so that none of them gets the same. Without Ray there is nothing to reserve.
    """
    wanted = run.train.device
    if wanted == "cpu" or not computes_itself(run):
        yield "cpu"
    elif (assigned := _assigned()) is not None:
        usable = bool(assigned) and torch.cuda.is_available()
        if wanted != "auto" and not usable:
            why = (
                "PyTorch cannot use the one that Ray has assigned"
                if assigned
                else "Ray has reserved no GPU for this run"
            )
            raise ConfigError(f"train.device is {wanted}, and {why}: set it to auto (`shaping doctor` shows why)")
        yield "cuda" if usable else "cpu"
    elif local_device(wanted) == "cpu" or not (run.rollout.workers or run.train.learner_group.strategy != "none"):
        yield local_device(wanted)
    else:
        from launch.distributed.own_gpu import held_gpu  # imports Ray

        with held_gpu(run) as number:
            yield f"cuda:{number}"


def _assigned() -> list[str] | None:
    """The GPUs that Ray has given to this process; None in a process that is no worker of Ray."""
    if (ray := sys.modules.get("ray")) is None or not ray.is_initialized():
        return None
    context = ray.get_runtime_context()
    if getattr(getattr(context, "worker", None), "mode", None) != ray.WORKER_MODE:
        return None
    return [str(number) for number in ray.get_gpu_ids()]
