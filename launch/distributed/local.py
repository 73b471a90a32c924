"""Ray for a study: one of our own on this machine, or a connection to a cluster."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from types import FrameType
from typing import Any

import ray

from launch.distributed.nodes import check_nodes, unreachable
from launch.distributed.run_worker import ONE_THREAD, QUIET
from launch.errors import UserError


@dataclass(frozen=True)
class RaySettings:
    """Where the runs execute: a Ray of our own with `cpus` cores, or the one at `address`."""

    cpus: int | None = None
    address: str | None = None


@contextlib.contextmanager
def running_ray(cluster: RaySettings, *, check: bool = True) -> Iterator[None]:
    """A local Ray that dies with us, or a connection to a cluster, whose nodes are checked."""
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    os.environ.update(QUIET)
    try:
        if cluster.address:
            ray.init(address=cluster.address, runtime_env={"env_vars": ONE_THREAD | QUIET}, **quiet)
        else:
            # Workers inherit our environment; a runtime environment would cost seconds per worker.
            os.environ.update(ONE_THREAD)
            own = {"num_cpus": cluster.cpus, "include_dashboard": False, "object_store_memory": 256 * 1024**2}
            ray.init(address="local", **own, **quiet)
    except (OSError, RuntimeError, ValueError, ImportError, ray.exceptions.RayError) as error:
        if cluster.address:
            raise unreachable(cluster.address, error) from error
        raise UserError(f"Ray does not start on this machine: {error}; `shaping doctor` shows why") from error
    with interruptible():  # ray.init has put its own handler in place
        try:
            if cluster.address and check:
                check_nodes()
            yield
        finally:
            ray.shutdown()


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """SIGTERM stops as cleanly as Ctrl-C does."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    try:
        previous = signal.signal(signal.SIGTERM, stop)
    except ValueError:  # not the main thread: signals are somebody else's
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
