"""Wall seconds of the stages of an update, and a word in the log about who is slow."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

from launch.storage.resume import log_to_stderr


@contextlib.contextmanager
def timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    """Note in `seconds` how long the block takes, as `seconds/<stage>`."""
    start = time.perf_counter()
    yield
    seconds[f"seconds/{stage}"] = round(time.perf_counter() - start, 4)


def slow(what: str, log: Callable[[str], None] = log_to_stderr) -> Callable[[float], None]:
    """For `envs.limits.within`: logs what has been waited for, and for how long."""
    return lambda seconds: log(f"{what}: no answer for {seconds:.0f} s, still waiting")
