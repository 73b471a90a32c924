"""Wall seconds of the stages of an update, and a word in the log about who is slow."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping

from launch.storage.resume import log_to_stderr


@contextlib.contextmanager
def timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    """Add to `seconds` how long the block takes, as `seconds/<stage>`."""
    start = time.perf_counter()
    yield
    add(seconds, stage, {f"seconds/{stage}": time.perf_counter() - start})


def add(seconds: dict[str, float], stage: str, more: Mapping[str, float]) -> None:
    """Add to `seconds` those of one stage, if `more` has any."""
    key = f"seconds/{stage}"
    if key in more:
        seconds[key] = round(seconds.get(key, 0.0) + more[key], 4)


def of_run(wall: float, cpu: float, seconds: Mapping[str, float]) -> dict[str, float]:
    """The wall and CPU seconds of a process that finished a run, and what its evaluations took of the former."""
    evaluated = seconds.get("seconds/evaluate", 0.0)
    return {
        "seconds": round(wall, 2),
        "seconds/cpu": round(cpu, 2),
        "seconds/evaluate": round(evaluated, 2),
        "evaluate_share": round(evaluated / wall, 4),
    }


def slow(what: str, log: Callable[[str], None] = log_to_stderr) -> Callable[[float], None]:
    """For `envs.limits.within`: logs what has been waited for, and for how long."""
    return lambda seconds: log(f"{what}: no answer for {seconds:.0f} s, still waiting")
