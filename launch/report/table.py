"""Arms x metrics with intervals over replicates, and differences. Pure functions of `{arm: {metric: {seed: value}}}`.

Runs are the unit of replication. Those of one seed meet the same episodes, which explains next to nothing of what
differs between them: arms are compared unpaired (Welch), with what they start from as a fixed effect.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from launch.report.escaping import csv_cell
from launch.report.files.load import ArmInfo, Study
from launch.report.metrics import monitor_of, record_of
from launch.report.statistics.estimate import contrast
from shaping.audits.conduct.cells import of_arm
from shaping.audits.intervals import mean_interval

BySeed = Mapping[int, float]
Values = Mapping[str, Mapping[str, BySeed]]


class Interval(NamedTuple):
    """Mean and interval of `n` seeds; the bounds are NaN for one seed, everything is NaN for none."""

    mean: float
    low: float
    high: float
    n: int


NOTHING = Interval(math.nan, math.nan, math.nan, 0)


def interval(values: Iterable[float], level: float = 0.95) -> Interval:
    """Student's t interval of the mean, shape [seeds]; NaNs (metric not measurable in a run) are left out."""
    finite = [value for value in values if math.isfinite(value)]
    return Interval(*mean_interval(finite, level), len(finite)) if finite else NOTHING


def difference(a: BySeed, b: BySeed, subjects: Mapping[int, str], level: float = 0.95) -> Interval:
    """Welch's interval of the mean difference a - b, with the subject of each seed as a fixed effect."""
    sides = {"a": finite(a), "b": finite(b)}
    fewest = min(map(len, sides.values()))
    found = contrast(sides, {"a": 1.0, "b": -1.0}, subjects)
    if found is None:
        means = [sum(side.values()) / len(side) for side in sides.values() if side]
        return Interval(means[0] - means[1], math.nan, math.nan, fewest) if fewest else NOTHING
    low, high = found.bounds(level)
    return Interval(float(found.mean), float(low), float(high), fewest)


def finite(by_seed: BySeed) -> dict[int, float]:
    """Without the seeds in which the metric could not be measured."""
    return {seed: value for seed, value in by_seed.items() if math.isfinite(value)}


def values_of(study: Study) -> dict[str, dict[str, dict[int, float]]]:
    """The summaries of all complete runs, without the readings that may not be quoted (`quotable`)."""
    table: dict[str, dict[str, dict[int, float]]] = {arm: {} for arm in study.arms}
    for run in study.runs:
        summary = run.summary
        for metric in quotable(summary, study.arms[run.arm]):
            table[run.arm].setdefault(metric, {})[run.seed] = summary[metric]
    return table


def quotable(summary: Iterable[str], arm: ArmInfo) -> list[str]:
    """The metrics that may be shown: a monitor that was trained against only with a held-out one beside it."""
    names = list(summary)
    monitors = {monitor for name in names if (monitor := monitor_of(name))}
    spent = set(arm.spent_monitors)
    withheld = spent if not monitors - spent else set()
    return [name for name in names if monitor_of(name) not in withheld]


def withheld(study: Study) -> dict[str, tuple[str, ...]]:
    """Arm -> spent monitors whose readings the report refuses to quote."""
    lost: dict[str, tuple[str, ...]] = {}
    for run in study.runs:
        arm = study.arms[run.arm]
        hidden = {monitor_of(name) for name in set(run.summary) - set(quotable(run.summary, arm))}
        if names := tuple(sorted(name for name in hidden if name)):
            lost[run.arm] = names
    return lost


def summarise(values: Values, level: float = 0.95) -> dict[str, dict[str, Interval]]:
    """The interval of every metric of every arm."""
    return {
        arm: {metric: interval(by_seed.values(), level) for metric, by_seed in metrics.items()}
        for arm, metrics in values.items()
    }


def compare(study: Study, values: Values, level: float = 0.95) -> dict[str, dict[str, Interval]]:
    """Differences of every arm to the reference arm at its point of the axes."""
    table: dict[str, dict[str, Interval]] = {}
    for name, arm in study.arms.items():
        reference = study.reference(arm)
        if reference is None or reference.name == name:
            continue
        base = {m: under_same_prompts(values[reference.name], m, name) for m in values[name]}
        table[name] = {m: difference(v, base[m], study.subjects, level) for m, v in values[name].items() if base[m]}
    return table


def under_same_prompts(reference: Mapping[str, BySeed], metric: str, arm: str) -> BySeed:
    """A reference's values of a metric that `arm` has: in the trigger grid, those under the prompts of this arm.

    A reference is tried on the prompts of every arm. Where these are the same for all arms, it has the metric under its
    plain name; where they are not, it has one for each arm. Empty if it has neither.
    """
    return reference.get(of_arm(metric, arm)) or reference.get(metric) or {}


def as_csv(summary: Mapping[str, Mapping[str, Interval]]) -> str:
    """Columns arm, metric, mean, low, high, seeds, unit, direction; what does not exist is left empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["arm", "metric", "mean", "low", "high", "seeds", "unit", "direction"])
    for arm, metrics in summary.items():
        for metric, cell in metrics.items():
            numbers = ["" if math.isnan(x) else repr(x) for x in (cell.mean, cell.low, cell.high)]
            record = record_of(metric)
            known = (record.unit, record.direction) if record else ("", "")
            writer.writerow([csv_cell(arm), csv_cell(metric), *numbers, cell.n, *map(csv_cell, known)])
    return text.getvalue()
