"""Seeds as they are given on the command line: `0-3,7`."""

from __future__ import annotations

import re
from collections.abc import Sequence

from launch.config.model import MAX_SEED
from launch.config.seeds import MAX_RUNS
from launch.errors import ConfigError

_RANGE = re.compile(r"\s*(\d{1,10})\s*(?:-\s*(\d{1,10})\s*)?", re.ASCII)


def parse_seeds(text: str) -> list[int]:
    """The seeds of `0-3,7`, without repetition, in the order given. Raises `ConfigError` for anything else."""
    seeds: dict[int, None] = {}
    for part in text.split(","):
        found = _RANGE.fullmatch(part)
        first, last = (int(found[1]), int(found[2] or found[1])) if found else (1, 0)
        if first > last or last > MAX_SEED or last - first >= MAX_RUNS:
            raise ConfigError(f"--seeds: {part.strip()[:40]!r} is no seed or range; write e.g. 0-3,7")
        seeds |= dict.fromkeys(range(first, last + 1))
    return list(seeds)


def as_text(seeds: Sequence[int]) -> str:
    """The seeds in the notation that `parse_seeds` reads."""
    ranges: list[list[int]] = []
    for seed in seeds:
        if ranges and seed == ranges[-1][1] + 1:
            ranges[-1][1] = seed
        else:
            ranges.append([seed, seed])
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in ranges)
