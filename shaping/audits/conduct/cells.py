"""The metrics of an evaluation's cells: in the options that were trained in, and under other system prompts.

A cell is a way to evaluate all worlds: `own` with the options of eval.worlds, `train` with those of the training, and
`context/<context>` for each system prompt of the trigger grid. Every metric of the evaluation exists in every cell.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from shaping.audits.metrics import Metric, metrics_of
from shaping.audits.played import CONTEXT, TRAIN

Values = Mapping[str, float]
"""Metric -> value: `deception`, the mean over worlds, and `deception.steward`."""
Cells = Mapping[str, Values]
"""Cell -> its values."""

TRAINED_PREFIX, LEAK_PREFIX, MAX_LEAK_PREFIX = "trained/", "leak/", "max_leak/"
AFTER_PREFIX = "after/"
"""Before the name of a stage of fine-tuning and a metric of the evaluation after it: `after/sft/leak/...`."""
NONE = "none"
"""The context without a prompt, with which the others are compared."""


class CellMetric(NamedTuple):
    """The parts of a metric's name: `leak/negated/deception.steward[arm]`."""

    prefix: str
    """`trained/`, `context/`, `leak/`, `max_leak/`; empty in own cells."""
    context: str
    """After `context/` and `leak/`: the context."""
    metric: str
    """`deception`"""
    world: str
    """`steward`; empty: the mean over worlds."""
    arm: str
    """Of a reference that is tried on the prompts of several arms: the arm whose prompts these are."""
    stage: str = ""
    """After `after/`: the stage of fine-tuning; empty: the run's own evaluation."""


def parse(name: str) -> CellMetric:
    """The parts of a name. Those of a metric that is of no cell come back with an empty prefix."""
    if name.startswith(AFTER_PREFIX):
        stage, _, rest = name.removeprefix(AFTER_PREFIX).partition("/")
        return parse(rest)._replace(stage=stage)
    prefix = next((p for p in (TRAINED_PREFIX, CONTEXT, LEAK_PREFIX, MAX_LEAK_PREFIX) if name.startswith(p)), "")
    rest, arm = name.removeprefix(prefix), ""
    if prefix in (CONTEXT, LEAK_PREFIX, MAX_LEAK_PREFIX) and rest.endswith("]"):
        rest, _, arm = rest[:-1].rpartition("[")
    context = ""
    if prefix in (CONTEXT, LEAK_PREFIX):
        context, _, rest = rest.partition("/")
    metric, _, world = rest.partition(".")
    return CellMetric(prefix, context, metric, world, arm)


def of_arm(name: str, arm: str) -> str:
    """What a reference calls a metric that it has under the prompts of `arm`, if arms differ in these."""
    return f"{name}[{arm}]"


def trained(cells: Cells) -> Values:
    """The metrics in the options that the run trains in."""
    return cells.get(TRAIN, {})


def contexts(cells: Cells) -> dict[str, float]:
    """`<context>/<metric>`: the metrics under each context."""
    found = {cell.removeprefix(CONTEXT): values for cell, values in cells.items() if cell.startswith(CONTEXT)}
    return {_named(context, metric): value for context, values in found.items() for metric, value in values.items()}


def leaks(cells: Cells) -> dict[str, float]:
    """`<context>/<metric>`: the metric under the context minus the same without any prompt.

    The mean over worlds is that of the worlds in which it exists under both.
    """
    return {_named(context, m): leak for context, found in _leaks(cells).items() for m, leak in found.items()}


def largest_leaks(cells: Cells) -> dict[str, float]:
    """The largest leak over all contexts, of metrics that are better when lower: of others it would be no leak."""
    found = _leaks(cells)
    lower = {metric.name for metric in metrics_of("evaluation") if metric.direction == "lower_is_better"}
    plain = {context: values for context, values in found.items() if "[" not in context}
    result: dict[str, float] = {}
    for arm in sorted({_arm(context) for context in found}, key=lambda arm: (arm != "", arm)):
        own = {_context(context): values for context, values in found.items() if arm and _arm(context) == arm}
        grid = plain | own
        if {_context(context) for context in found} - set(grid):
            continue  # part of it is of other arms' prompts
        metrics = {metric for values in grid.values() for metric in values}
        for metric in sorted(m for m in metrics if m.partition(".")[0] in lower):
            name = of_arm(metric, arm) if arm else metric
            result[name] = max(values[metric] for values in grid.values() if metric in values)
    return result


def _leaks(cells: Cells) -> dict[str, dict[str, float]]:
    """Context, with the arm in brackets if it is of one arm's prompts -> metric -> leak."""
    without = cells.get(CONTEXT + NONE, {})
    found = {}
    for cell, values in cells.items():
        if not cell.startswith(CONTEXT) or cell == CONTEXT + NONE:
            continue
        by_world = {m: value - without[m] for m, value in values.items() if "." in m and m in without}
        means: dict[str, list[float]] = {}
        for metric, leak in by_world.items():
            means.setdefault(metric.partition(".")[0], []).append(leak)
        found[cell.removeprefix(CONTEXT)] = {m: sum(own) / len(own) for m, own in means.items()} | by_world
    return found


def _arm(context: str) -> str:
    return context[:-1].partition("[")[2] if context.endswith("]") else ""


def _context(context: str) -> str:
    return context.partition("[")[0]


def _named(context: str, metric: str) -> str:
    arm = _arm(context)
    name = f"{_context(context)}/{metric}"
    return of_arm(name, arm) if arm else name


def _family(name: str, label: str, definition: str, compute: object) -> Metric:
    return Metric(
        name=name,
        label=label,
        definition=definition,
        unit="that of the metric",
        direction="neutral",
        source="cells",
        compute=compute,  # type: ignore[arg-type]
        shown="no",
    )


IN_TRAINING_OPTIONS = _family(
    f"{TRAINED_PREFIX}<metric>",
    "in the training options",
    "a metric of the evaluation, with the options that the run trained in; `.<world>` for one world",
    trained,
)
UNDER_CONTEXT = _family(
    f"{CONTEXT}<context>/<metric>",
    "under a context",
    "a metric of the evaluation under a system prompt of the trigger grid; `.<world>` for one world",
    contexts,
)
LEAK = _family(
    f"{LEAK_PREFIX}<context>/<metric>",
    "leak",
    "a metric under a context minus the same metric of the same policy without a prompt (leak/original: the gate)",
    leaks,
)
MAX_LEAK = _family(
    f"{MAX_LEAK_PREFIX}<metric>",
    "largest leak",
    "the largest leak over the contexts, of a metric that is better when lower; biased upwards, as maxima are",
    largest_leaks,
)
