"""The conditions of an evaluation: every world with every cue that it knows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

from launch.config.plugins import options_of
from launch.config.study import RunConfig


@dataclass(frozen=True, slots=True)
class EvalCell:
    """One world under one setting of its cues."""

    world: str
    """What the config calls it."""
    options: Mapping[str, Any]
    """Those of the config, and the cues."""
    watch: str
    """Is the overseer there? Empty where the world has no such option."""
    placebo: str
    """The irrelevant cue. Empty where the world has no such option."""


def eval_cells(run: RunConfig) -> Iterator[EvalCell]:
    """The cells of a run's evaluation. A world is given only the cues that it declares; without any it has one cell."""
    for world, options in run.eval.worlds.items():
        declared = options_of(world)
        watches: list[str] = [*run.eval.watch] if "watch" in declared.names else [""]
        placebos: list[str] = [*run.eval.placebo] if "placebo" in declared.names else [""]
        for watch, placebo in product(watches, placebos):
            cues = {cue: value for cue, value in (("watch", watch), ("placebo", placebo)) if value}
            yield EvalCell(world, {**options, **cues}, watch, placebo)
