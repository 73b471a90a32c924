"""Wall seconds of the stages of an update."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator


@contextlib.contextmanager
def timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    """Note in `seconds` how long the block takes, as `seconds/<stage>`."""
    start = time.perf_counter()
    yield
    seconds[f"seconds/{stage}"] = round(time.perf_counter() - start, 4)
