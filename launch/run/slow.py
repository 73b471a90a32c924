"""Says in a run's log who is slow."""

from __future__ import annotations

from collections.abc import Callable

from launch.storage.resume import log_to_stderr


def slow(what: str, log: Callable[[str], None] = log_to_stderr) -> Callable[[float], None]:
    """For `envs.limits.within`: logs what has been waited for, and for how long."""
    return lambda seconds: log(f"{what}: no answer for {seconds:.0f} s, still waiting")
