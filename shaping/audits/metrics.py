"""Metrics as records, in one registry that evaluation, training rows, reports, CSV and docs read.

A module of `shaping.audits` that holds a `Metric` at its top level adds that metric; another package adds one under the
entry-point group `shaping.metrics`. No list names them.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from types import ModuleType
from typing import Any, Literal, get_args

from envs.discovery import instances

Direction = Literal["higher_is_better", "lower_is_better", "neutral"]
Shown = Literal["main", "further", "no"]
Source = Literal["evaluation", "cells", "condition", "update", "training", "access", "monitor"]
"""What a metric is computed from, and where its value goes.

- evaluation: the deployed policy's episodes in one world (`Played`) -> summary, as the mean over worlds and `.<world>`
- cells: the metrics of the evaluation in each of its cells (`shaping.audits.conduct.cells`) -> summary
- condition: the episodes of one evaluation condition (`Played`) -> the condition's row of eval.jsonl
- update: the episodes of one update and their credit (`Update`) -> the update's row of metrics.jsonl; summary, as the
  mean over updates, unless it is a family
- training: the rows of metrics.jsonl -> summary
- access, monitor: the audit of reward access and the monitors -> summary; they need more than records, so they have no
  `compute`
"""

Value = float | None | Mapping[str, float | None]
"""A number, None where the metric is not defined, or member -> number for a family of metrics."""

GROUP = "shaping.metrics"
_MEMBER = re.compile("<.+>")


class MetricError(ValueError):
    """A metric's record is not usable, or a plug-in's metric does not load."""


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One measured quantity. A name with a part in <> is a family: `compute` returns a value per member."""

    name: str
    """Its key in a run's summary (evaluation, training, access, monitor) or in a row (condition, update)."""
    label: str
    """Its name in tables."""
    definition: str
    """One sentence."""
    unit: str
    """What 1 is, e.g. `events per opportunity`."""
    direction: Direction
    """Which way is better for those who want a capable and honest agent."""
    source: Source
    compute: Callable[[Any], Value] | None = None
    """A pure function of what `source` names."""
    column: str = ""
    """evaluation only: its key in the rows of metrics.jsonl and eval.jsonl; empty: it is in no row."""
    column_per_world: bool = True
    """Whether rows of metrics.jsonl have the column per world, too (`<column>/<world>`)."""
    shown: Shown = "further"
    """Table of the report: the main one, the further metrics, or none (arms.csv has all)."""
    compares_cues: bool = False
    """evaluation only: whether it needs episodes with a cue and without it, which only the cells own and train have."""
    pressed: bool = False
    """Whether it is deception or dodged oversight: the conduct of which the pressure index says whether it pays."""
    per_world: bool = False
    """Whether the report's table by world has it."""
    position: int = 1000
    """Place in tables, counted from the left."""

    def __post_init__(self) -> None:
        for name in ("name", "label", "definition", "unit"):
            if not (text := getattr(self, name).strip()) or "\n" in text:
                raise MetricError(f"metric {self.name!r}: {name} must be one line of text, not {text!r}")
        for name, known in (("direction", Direction), ("source", Source), ("shown", Shown)):
            if (value := getattr(self, name)) not in get_args(known):
                raise MetricError(f"metric {self.name!r}: {name} is {value!r}; choose one of {get_args(known)}")
        if self.source == "evaluation" and "." in self.name:
            raise MetricError(f"metric {self.name!r}: no dot in the name, as `.<world>` follows it; use _")
        if (self.compute is None) != (self.source in ("access", "monitor")):
            need = "needs a compute function" if self.compute is None else "can have no compute function"
            raise MetricError(f"metric {self.name!r}: a metric of source {self.source!r} {need}")

    @property
    def described(self) -> str:
        """How messages speak of it."""
        return f"the metric {self.name!r}"

    @property
    def family(self) -> bool:
        """Whether it has a value per member, such as `selection/<trait>`."""
        return bool(_MEMBER.search(self.name))

    def measure(self, subject: Any, key: str = "") -> dict[str, float]:
        """Key (default: the name) -> what `compute` makes of `subject`; nothing where it is not defined."""
        assert self.compute is not None, self.name
        try:
            values = _numbers(self.compute(subject), key or self.name)
            return {name: value for name, value in values.items() if math.isfinite(value)}
        except Exception as error:
            error.add_note(f"while computing {self.described}")
            raise


def _numbers(value: Value, key: str) -> dict[str, float]:
    """Plain numbers, which JSON can hold; counts stay whole."""
    found: dict[str, float | None]
    if isinstance(value, Mapping):
        before, _, after = _MEMBER.sub("\0", key).partition("\0")
        found = {f"{before}{member}{after}": number for member, number in value.items()}
    else:
        found = {key: value}
    return {name: each if type(each) is int else float(each) for name, each in found.items() if each is not None}


@functools.cache
def all_metrics() -> tuple[Metric, ...]:
    """Every metric: built-in and installed ones, in the order of their `position`, then of their names.

    Raises `MetricError` if two have one name or an installed one does not load.
    """
    found: dict[str, Metric] = {}
    for metric in [*instances("shaping.audits", Metric), *_installed()]:
        if metric.name in found:
            raise MetricError(f"two metrics are called {metric.name!r}: rename one")
        found[metric.name] = metric
    return tuple(sorted(found.values(), key=lambda metric: (metric.position, metric.name)))


def metrics_of(source: Source) -> list[Metric]:
    """The metrics that are computed from `source`."""
    return [metric for metric in all_metrics() if metric.source == source]


def mean_over_updates(column: str) -> Callable[[Sequence[Mapping[str, Any]]], float | None]:
    """The function that gives the mean of a column of metrics.jsonl over the rows that have it; None without any."""

    def compute(rows: Sequence[Mapping[str, Any]]) -> float | None:
        found = [float(row[column]) for row in rows if column in row]
        return sum(found) / len(found) if found else None

    return compute


def with_column() -> list[Metric]:
    """The metrics of the evaluation that training and evaluation rows have, too."""
    return [metric for metric in metrics_of("evaluation") if metric.column]


def _installed() -> Iterable[Metric]:
    """What other packages register: an entry point names a `Metric`, or a module that holds some."""
    for point in sorted(entry_points(group=GROUP), key=lambda point: point.name):
        try:
            loaded = point.load()
        except Exception as error:
            problem = f"{type(error).__name__}: {error}"
            raise MetricError(
                f"entry point {point.name!r} of {GROUP} ({point.value}) does not load: {problem}"
            ) from error
        own = vars(loaded).values() if isinstance(loaded, ModuleType) else [loaded]
        metrics = [value for value in own if isinstance(value, Metric)]
        if not metrics:
            raise MetricError(f"entry point {point.name!r} of {GROUP} ({point.value}) is no Metric and holds none")
        yield from metrics
