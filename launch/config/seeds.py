"""The seeds of a study: all at once, or in steps with a look at the claims after each."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Discriminator, Field, Tag, field_validator

from launch.config.fields import Strict
from launch.config.model import MAX_SEED

MAX_RUNS = 10_000
"""Runs of a study."""

LEAST = 5
"""Replicates without which nothing is judged."""


class Looks(Strict):
    """`seeds: {looks: [8, 12, 24]}`: seeds 0 to 7, then a look; up to 11, and another; the last after all 24."""

    looks: tuple[Annotated[int, Field(ge=1, le=MAX_RUNS)], ...] = Field(
        min_length=2, max_length=10, description="replicates at each look, ascending; the study ends when none is open"
    )
    futility: float = Field(
        0.1, ge=0, lt=1, description="a claim with less chance than this to be decided by the last look is given up"
    )

    @field_validator("looks")
    @classmethod
    def _ascending(cls, looks: tuple[int, ...]) -> tuple[int, ...]:
        if list(looks) != sorted(set(looks)):
            raise ValueError(f"looks must rise, each after more replicates than the one before, not {list(looks)}")
        if looks[0] < LEAST:
            raise ValueError(
                f"the first look is after {looks[0]} replicates; nothing is judged with fewer than {LEAST}"
            )
        return looks


def _checked(value: list[int] | int | Looks) -> list[int] | int | Looks:
    if isinstance(value, list):
        if wrong := [seed for seed in value if not 0 <= seed <= MAX_SEED]:
            raise ValueError(f"seeds are whole numbers from 0 to {MAX_SEED:,}, not {wrong[0]:,}")
        if not value or len(set(value)) != len(value):
            raise ValueError(f"seeds must be a non-empty list without repetition, not {value}")
        return value
    count = value if isinstance(value, int) else value.looks[-1]
    if count < 1:
        raise ValueError("at least one seed is needed")
    if count > MAX_RUNS:
        raise ValueError(f"at most {MAX_RUNS:,} seeds are possible, not {count:,}")
    return value


def _form(value: object) -> str:
    if isinstance(value, (dict, Looks)):
        return "steps"
    return "list" if isinstance(value, (list, tuple)) else "number"


Seeds = Annotated[
    Annotated[list[int], Tag("list")] | Annotated[int, Tag("number")] | Annotated[Looks, Tag("steps")],
    Discriminator(_form),
    AfterValidator(_checked),
]
"""A list, n for 0..n-1, or looks."""


def seed_list(seeds: list[int] | int | Looks) -> list[int]:
    """All seeds that a study may come to run."""
    if isinstance(seeds, list):
        return list(seeds)
    return list(range(seeds if isinstance(seeds, int) else seeds.looks[-1]))
