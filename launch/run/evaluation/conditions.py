"""The conditions of an evaluation: its cells, every world with every cue that it knows, and the trigger grid.

A cell says with which options the worlds are played: `own` with those of eval.worlds, `train` with those that the run
trains in. The cells `context/<context>` are the trigger grid: system prompts before the same episodes, unwatched.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from envs.episode import Context
from launch.config.plugins import options_of
from launch.config.study import RunConfig
from launch.run.evaluation.contexts import own_prompts, prompts
from shaping.audits.conduct.cells import NONE
from shaping.audits.played import CONTEXT, OWN, TRAIN

UNWATCHED: Mapping[str, str] = {"watch": "never", "placebo": "none"}
"""The cues of the trigger grid, in worlds that declare them."""


@dataclass(frozen=True, slots=True)
class EvalCell:
    """One world under one setting of its cues, as one cell of the evaluation plays it."""

    world: str
    """What the config calls it."""
    options: Mapping[str, Any]
    """Those of the config, and the cues."""
    watch: str
    """Is the overseer there? Empty where the world has no such option."""
    placebo: str
    """The irrelevant cue. Empty where the world has no such option."""
    episodes: int
    cells: tuple[str, ...]
    """The cells that its episodes count in."""
    where: str
    """Dotted key of the world, for messages."""
    contexts: tuple[Context, ...] = ()
    """The system prompt of each episode; empty: none has one."""


def eval_cells(run: RunConfig, *, contexts: bool = True) -> list[EvalCell]:
    """All cells of a run's evaluation; those that would play the same episodes are one.

    `contexts=False` leaves the trigger grid out.
    """
    planned = [*_cells(run), *(_grid(run) if contexts else ())]
    merged: dict[tuple[Any, ...], EvalCell] = {}
    for cell in planned:
        key = (cell.world, repr(sorted(cell.options.items())), cell.episodes, cell.contexts)
        known = merged.setdefault(key, cell)
        merged[key] = replace(known, cells=tuple(dict.fromkeys((*known.cells, *cell.cells))))
    return list(merged.values())


def _cells(run: RunConfig) -> Iterator[EvalCell]:
    """The cells `own` and `train`. Without `own`, the plain metrics are those of the training options, too."""
    if OWN in run.eval.cells:
        yield from _with_cues(run, run.eval.worlds, "eval.worlds", (OWN,))
    if TRAIN in run.eval.cells:
        both = (TRAIN,) if OWN in run.eval.cells else (OWN, TRAIN)
        yield from _with_cues(run, run.train.worlds, "train.worlds", both)


def _with_cues(
    run: RunConfig, worlds: Mapping[str, Mapping[str, Any]], where: str, cells: tuple[str, ...]
) -> Iterator[EvalCell]:
    """A world is given only the cues that it declares; without any it is played in one condition."""
    drawn = own_prompts(run, worlds, run.eval.episodes) if run.eval.prompted else {}
    for world, options in worlds.items():
        declared = options_of(world)
        watches: Iterable[str] = run.eval.watch if "watch" in declared.names else [""]
        placebos: Iterable[str] = run.eval.placebo if "placebo" in declared.names else [""]
        for watch, placebo in product(watches, placebos):
            cues = {cue: value for cue, value in (("watch", watch), ("placebo", placebo)) if value}
            yield EvalCell(
                world, {**options, **cues}, watch, placebo, run.eval.episodes, cells, where, drawn.get(world, ())
            )


def _grid(run: RunConfig) -> Iterator[EvalCell]:
    """The trigger grid: every world once, in the training options if it is trained in and these are evaluated."""
    places = {world: ("eval.worlds", options) for world, options in run.eval.worlds.items() if OWN in run.eval.cells}
    if TRAIN in run.eval.cells:
        places |= {world: ("train.worlds", options) for world, options in run.train.worlds.items()}
    number = run.eval.episodes_per_context
    drawn = prompts(run, places, number)
    for world, (where, options) in places.items() if drawn else ():
        declared = options_of(world).names
        cues = {cue: value for cue, value in UNWATCHED.items() if cue in declared}
        watch, placebo = (cues.get(cue, "") for cue in UNWATCHED)
        plain = EvalCell(world, {**options, **cues}, watch, placebo, number, (CONTEXT + NONE,), where)
        yield plain
        for context, by_world in drawn.items():
            yield replace(plain, cells=(CONTEXT + context,), contexts=by_world[world])
