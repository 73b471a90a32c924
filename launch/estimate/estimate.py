"""The estimate of a study's time, from the table of timed runs."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from launch.config.model import OrganismModel, ShippedModel
from launch.config.study import RunConfig
from launch.estimate.table import Seconds, Timed, read

ORGANISM = "organism"


@dataclass(frozen=True)
class Estimate:
    """What the runs of a study will take, each on one core."""

    seconds: tuple[float, ...]
    """Of the runs that could be estimated."""
    alike: int
    """Of these, how many by runs of other studies, of the same worlds where there are any."""
    unknown: int
    """Runs that nothing in the table is like."""


def estimate(runs: Sequence[RunConfig], table: Seconds | None = None) -> Estimate:
    """The time of each run, by what runs of its own setting took, else others of its study, of its worlds, or any.

    Times grow with updates, episodes of an update and episodes of the evaluation. Adapters, stages of fine-tuning and
    what methods add are in the times of the setting's own runs alone.
    """
    timed = (table or read()).timed
    found = [_like(run, timed) for run in runs]
    seconds = [_median(run, like) for run, (like, _) in zip(runs, found, strict=True) if like]
    return Estimate(
        tuple(seconds), sum(bool(like) and not own for like, own in found), sum(not like for like, _ in found)
    )


def time_lines(runs: Sequence[RunConfig], at_once: int, table: Seconds | None = None) -> list[str]:
    """What a user is told before the runs start. `at_once`: runs at a time."""
    table = table or read()
    found = estimate(runs, table)
    if not found.seconds:
        return [
            f"time: not estimated, as no run like these {len(runs)} was timed before (launch/estimate/seconds.json)"
        ]
    least, most = min(found.seconds), max(found.seconds)
    each = f"{least:.0f} s" if round(least) == round(most) else f"{least:.0f} to {most:.0f} s"
    total = max(sum(found.seconds) / max(at_once, 1), most)
    by = f", {found.alike} of them by runs of other studies" if found.alike else ""
    left = f"; {found.unknown} further runs are like none that was timed" if found.unknown else ""
    return [
        f"time: about {duration(total)} for {len(found.seconds)} runs of {each}, {at_once} at a time, where each has a "
        f"core to itself{by}{left} (timed on {table.machine})"
    ]


def duration(seconds: float) -> str:
    """`40 s`, `12 min`, `2 h 5 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def kind_of(run: RunConfig) -> str:
    """The model's kind: times of organisms say nothing about larger models."""
    if isinstance(run.model, ShippedModel):
        return ORGANISM
    if isinstance(run.model, OrganismModel):
        given = run.model.organism
        return ORGANISM if (given.hidden, given.layers) == (128, 2) else f"{ORGANISM} {given.layers}x{given.hidden}"
    return str(run.model)


def _like(run: RunConfig, timed: Sequence[Timed]) -> tuple[list[Timed], bool]:
    """(timed settings that say most about a run, whether they are of its own study)."""
    same = [each for each in timed if each.model == kind_of(run)]
    worlds = tuple(sorted(run.train.worlds))
    of_study = [each for each in same if each.study == run.study and each.worlds == worlds]
    own = [each for each in of_study if each.setting == run.point_name]
    if own or of_study:
        return own or of_study, True
    if run.seats or run.stages:
        return [], False
    of_worlds = [each for each in same if each.worlds == worlds]
    return of_worlds or [each for each in same if len(each.worlds) == len(worlds)], False


def _median(run: RunConfig, like: Sequence[Timed]) -> float:
    return statistics.median(_scaled(run, each) for each in like)


def _scaled(run: RunConfig, timed: Timed) -> float:
    size = run.train.groups * run.train.group_size / timed.episodes
    played = run.eval.episodes / timed.evaluated
    return run.train.updates * timed.update_seconds * size + timed.other_seconds * played
