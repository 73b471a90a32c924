"""Ray for a study: a local Ray on this machine, or a connection to a cluster."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import ray
from ray._private import ray_constants

from launch.distributed.nodes import check_nodes, unreachable
from launch.distributed.orphans import none_left_behind
from launch.distributed.ray_folder import check_ray_folder
from launch.distributed.reachable import check_reachable
from launch.distributed.run_worker import ONE_THREAD, QUIET
from launch.errors import UserError
from launch.storage.versions import ROOT


@dataclass(frozen=True)
class RaySettings:
    """Where the runs of a study execute."""

    cpus: int | None = None
    """Cores of a local Ray; None: all of this machine."""
    address: str | None = None
    """Address of a cluster; None: start a local Ray."""
    gpus: int | None = None
    """GPUs of a local Ray; None: all that this torch can use."""


@contextlib.contextmanager
def running_ray(settings: RaySettings, *, check: bool = True) -> Iterator[None]:
    """Start a local Ray that ends with this process, or connect to a cluster.

    With `check`, the nodes of a cluster are compared with this process. Raises `UserError` if Ray does not start, the
    cluster does not answer, or a node differs.
    """
    os.environ.update(QUIET)
    if settings.address:
        check_reachable(settings.address)
    else:
        check_ray_folder()
        _refuse_hiding(Path.cwd())
    with contextlib.nullcontext() if settings.address else none_left_behind():
        _start(settings)
        with interruptible():  # ray.init has replaced the handler
            try:
                if settings.address and check:
                    check_nodes()
                yield
            finally:
                ray.shutdown()


@contextlib.contextmanager
def joined_ray(settings: RaySettings | None = None) -> Iterator[None]:
    """The Ray that this process has; else that of the settings, while the block lasts.

    By default they are the cluster that RAY_ADDRESS names, or else a local Ray.
    """
    if ray.is_initialized():
        yield
        return
    with running_ray(settings or RaySettings(address=os.environ.get("RAY_ADDRESS"))):
        yield


def _refuse_hiding(folder: Path) -> None:
    """Ray's workers search the working directory first, before they know of this package."""
    for name in ("launch", "shaping"):
        for file in (folder / f"{name}.py", folder / name / "__init__.py"):
            if file.is_file() and not file.resolve().is_relative_to(ROOT / name):
                raise UserError(
                    f"{file} hides the framework's own package {name!r} ({ROOT / name}) from the workers of this run: "
                    "rename it, or start elsewhere"
                )


def _gpus() -> int:
    import torch  # takes more than a second, and no cluster needs it

    return torch.cuda.device_count()  # Ray would also count those that this torch cannot use


def _start(settings: RaySettings) -> None:
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    try:
        if settings.address:
            ray.init(address=settings.address, runtime_env={"env_vars": ONE_THREAD | QUIET}, **quiet)
        else:
            # Workers inherit this environment; a runtime environment would cost seconds per worker.
            os.environ.update(ONE_THREAD)
            gpus = _gpus() if settings.gpus is None else settings.gpus
            local: dict[str, Any] = {"num_cpus": settings.cpus, "num_gpus": gpus, "include_dashboard": False}
            local |= {"object_store_memory": 256 * 1024**2}
            with _on_loopback():
                ray.init(address="local", **local, **quiet)
    except (OSError, RuntimeError, ValueError, ImportError, ray.exceptions.RayError) as error:
        if settings.address:
            raise unreachable(settings.address, error) from error
        raise UserError(f"Ray does not start on this machine: {error}; `shaping doctor` shows why") from error


@contextlib.contextmanager
def _on_loopback() -> Iterator[None]:
    """Let a Ray that starts in this block listen on the loopback address alone, as it does on macOS and Windows.

    By default Ray on Linux listens on all interfaces, and turns an explicit 127.0.0.1 into the machine's address.
    """
    switch = ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR
    before = ray_constants.ENABLE_RAY_CLUSTER, os.environ.get(switch)
    ray_constants.ENABLE_RAY_CLUSTER, os.environ[switch] = False, "0"  # of this process and of those that it starts
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before[0]
        del os.environ[switch]
        os.environ.update({} if before[1] is None else {switch: before[1]})


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Let SIGTERM, and the SIGHUP of a terminal that closes, stop as cleanly as Ctrl-C does. `nohup` is respected."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    heeded = [number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) != signal.SIG_IGN]
    try:
        previous = {number: signal.signal(number, stop) for number in heeded}
    except ValueError:  # not the main thread, which alone may handle signals
        yield
        return
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
