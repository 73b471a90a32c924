"""What shaping costs: the tax on the task at equal tokens, and how much of the task's reward an arm retains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from launch.report.escaping import plain
from launch.report.files.load import Run
from launch.report.markdown import blocks, inline, table
from launch.report.results import ArmView, Results
from launch.report.sections.base import Section
from launch.report.table import finite, interval
from shaping.audits.between_runs import retention, tax

ABOUT = (
    "Against the reference at the same point of the axes, seed by seed. Tax: true reward in training of the reference "
    "minus that of the arm, after equally many tokens that were learned from. Retained: the arm's mean at deployment "
    "as a share of the reference's; missing where the reference earns nothing."
)
METRICS = ("true_reward", "proxy_reward")
HEAD = ("tax", *(f"{metric.replace('_', ' ')} retained" for metric in METRICS))


@dataclass(frozen=True)
class CostRow:
    arm: ArmView
    cells: Sequence[str]


@dataclass(frozen=True)
class CostTable:
    """The costs of all arms but the references."""

    about: str
    head: Sequence[str]
    rows: Sequence[CostRow]


class Costs(Section):
    """Per arm the tax on the true reward at equal tokens, and the share of the reference's reward that is retained."""

    title = "What shaping costs"
    position = 48

    def compute(self, results: Results) -> CostTable | None:
        study, rows = results.study, []
        for arm in results.shown:
            reference = study.reference(study.arms[arm.name])
            if reference is None or reference.name == arm.name or not study.of(reference.name):
                continue
            cells = [_tax(study.of(arm.name), study.of(reference.name))]
            cells += [_retained(results.values, arm.name, reference.name, metric) for metric in METRICS]
            rows.append(CostRow(arm, cells))
        return CostTable(ABOUT, HEAD, rows) if any(cell != "–" for row in rows for cell in row.cells) else None

    def markdown(self, content: CostTable) -> str:
        rows = [(row.arm.title, *row.cells) for row in content.rows]
        return blocks(inline(content.about, len(content.about)), table(("arm", *content.head), rows))


def _tax(runs: Sequence[Run], references: Sequence[Run]) -> str:
    other = {run.seed: run.train for run in references}
    found = [tax(run.train, other[run.seed]) for run in runs if run.seed in other]
    return plain(*interval(value for value in found if value is not None)[:3])


def _retained(values: Mapping[str, Mapping[str, Mapping[int, float]]], arm: str, reference: str, metric: str) -> str:
    sides = [finite(values.get(name, {}).get(metric, {})) for name in (arm, reference)]
    found = retention(*sides)
    return "–" if found is None else plain(*found)
