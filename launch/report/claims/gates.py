"""Can the subjects show the effect at all, and did the evaluation give it a chance?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple

from launch.config.seeds import LEAST
from launch.report.claims.effects import Comparison
from launch.report.claims.pressure import world_of
from launch.report.claims.table import Table
from launch.report.files.run_files import is_measurement
from launch.report.metrics import label, monitor_of
from shaping.audits.conduct.cells import parse
from shaping.audits.training.attached import prefix_of

Gate = Literal["M1", "M2", "M3", "M4", "M5", "M6", "M7"]
EVERYWHERE: Final = "M7"
"""A gate that is needed in every world in which it is known: a subject that is competent in one language alone shows
nothing about another."""


class GateCheck(NamedTuple):
    """`failed` says which subject failed; `unknown` are notes on gates that nobody has measured."""

    failed: str
    unknown: tuple[str, ...]


def failed_gates(needs: Sequence[Gate], table: Table, compared: Sequence[Comparison]) -> GateCheck:
    """The gates that the subjects of these comparisons failed in the worlds of their metrics."""
    worlds = dict.fromkeys(w for each in compared for w in _worlds(each.metric, table))
    failed, unknown = [], []
    subjects = _subjects(table, compared)
    for gate in needs:
        for world in dict.fromkeys([*worlds, *(w for subject in subjects for w in _known(table, subject, gate))]):
            for subject in subjects:
                found = _gate(table.evidence.gates, subject, world, gate)
                who = f"subject {subject}" if subject else "the subject"
                if found is None or found.get("passed") is None:
                    unknown.append(f"gate {gate} in {world} of {who} is unknown")
                elif not found["passed"]:
                    failed.append(f"{who} failed {gate} in {world}{_numbers(found)}")
    return GateCheck("; ".join(failed), tuple(unknown))


def untested_methods(table: Table, compared: Sequence[Comparison]) -> str:
    """The arms of these comparisons of which a run says nothing about its method, and why."""
    arms = dict.fromkeys(arm for each in compared for arm, weight in each.weights.items() if weight)
    return "; ".join(f"{arm}: {table.evidence.untested[arm]}" for arm in arms if arm in table.evidence.untested)


def unvaried_groups(table: Table, compared: Sequence[Comparison]) -> str:
    """The arms of these comparisons that had next to nothing to learn from, and in how many replicates they had.

    What was measured after an earlier stage does not depend on what the last one had to learn from.
    """
    said = []
    pairs = [(arm, each.metric) for each in compared for arm, weight in each.weights.items() if weight]
    for arm in dict.fromkeys(arm for arm, metric in pairs if not _before_the_last_stage(metric, arm, table)):
        seeds = table.runs(arm)
        varied = seeds & table.evidence.varied.get(arm, frozenset(seeds))
        if len(varied) < LEAST:
            said.append(f"{arm} {len(varied)} of {len(seeds)}")
    return (
        f"replicates in which any group's rewards varied in the first quarter of the updates: {', '.join(said)}; five "
        "are needed"
        if said
        else ""
    )


def spent_monitors(table: Table, compared: Sequence[Comparison]) -> str:
    """The monitors whose readings these comparisons rest on, and that one of their arms was trained against.

    Training against a monitor lowers its readings, whether or not it changes the conduct (arXiv 2503.11926).
    """
    trained = {arm.name: arm.spent_monitors for arm in table.arms}
    spent = dict.fromkeys(
        f"monitor {monitor} was trained against in {arm}"
        for each in compared
        if (monitor := monitor_of(each.metric))
        for arm, weight in each.weights.items()
        if weight and monitor in trained.get(arm, ())
    )
    return "; ".join(spent)


def missing_values(table: Table, compared: Sequence[Comparison]) -> str:
    """The replicates in which a metric has no value: nothing could happen, or it was not measured."""
    lacking: dict[str, None] = {}
    for each in compared:
        for arm in (arm for arm, weight in each.weights.items() if weight):
            runs = table.runs(arm)
            lost = sorted(runs - table.column(arm, each.metric, each.arm).keys())
            if lost:
                seeds = "all replicates" if len(lost) == len(runs) else f"seed {', '.join(map(str, lost))}"
                lacking[f"{label(each.metric)} in {arm}, {seeds}"] = None
    return f"no opportunities (no denominator): {'; '.join(lacking)}" if lacking else ""


def _known(table: Table, subject: str, gate: Gate) -> list[str]:
    """Further worlds in which a subject must have passed the gate."""
    found = table.evidence.gates.get(subject, {}) if gate == EVERYWHERE else {}
    return [world for world, gates in found.items() if gate in gates]


def _before_the_last_stage(metric: str, arm: str, table: Table) -> bool:
    stage, last = parse(metric.removeprefix(prefix_of(metric))).stage, table.evidence.last_stage.get(arm, "")
    return bool(stage) and bool(last) and stage != last


def _worlds(metric: str, table: Table) -> Iterable[str]:
    return [world] if (world := world_of(metric)) else table.evidence.worlds


def _subjects(table: Table, compared: Sequence[Comparison]) -> list[str]:
    seeds = {seed for each in compared for arm in each.weights for seed in table.runs(arm)}
    return sorted({table.evidence.subjects.get(seed, "") for seed in seeds})


def _gate(gates: Mapping[str, Any], subject: str, world: str, gate: str) -> Mapping[str, Any] | None:
    of_world = gates.get(subject, {}).get(world, gates.get(subject, {}).get(world.partition("@")[0]))
    found = of_world.get(gate) if isinstance(of_world, Mapping) else None
    return found if isinstance(found, Mapping) else None


def _numbers(found: Mapping[str, Any]) -> str:
    """` (value .08 < .15)`, where both are numbers."""
    value, threshold = found.get("value"), found.get("threshold")
    if value is None or threshold is None or not (is_measurement(value) and is_measurement(threshold)):
        return ""
    return f" (value {value:.2f} {'<' if value < threshold else '>'} {threshold:.2f})"
