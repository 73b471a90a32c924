"""How the numbers came about, what they mean, and how to get them again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from launch.config.reading.published import without_places
from launch.report.escaping import json_text, plain
from launch.report.files.load import Study
from launch.report.markdown import blocks, inline, line, table
from launch.report.metrics import Metric, further_metrics, main_metrics
from launch.report.results import ArmView, Results
from launch.report.sections.base import Section
from launch.report.table import Interval


@dataclass(frozen=True)
class Account:
    """Paragraphs, definitions, the metrics beyond the main table, and what a repetition needs."""

    paragraphs: Sequence[str]
    definitions: Sequence[Metric]
    further: Sequence[Metric]
    cells: Sequence[tuple[ArmView, Sequence[Interval]]]
    versions: Mapping[str, str]
    config: str
    name: str


class Methods(Section):
    """Design, statistics, definitions, versions, configuration, commands."""

    title = "Methods"
    position = 90

    def compute(self, results: Results) -> Account:
        study = results.study
        measured = {name for cells in results.cells.values() for name in cells}
        further = [metric for metric in further_metrics() if metric.name in measured]
        return Account(
            [_design(results), _statistics(results.delta)],
            [*main_metrics(), *further],
            further,
            [(arm, [results.cell(arm, metric.name) for metric in further]) for arm in results.shown],
            _versions(study),
            json_text(without_places(study.config.model_dump(mode="json", exclude={"output"})), indent=2),
            study.name,
        )

    def markdown(self, content: Account) -> str:
        rows = [(arm.title, *[plain(*cell[:3]) for cell in cells]) for arm, cells in content.cells]
        return blocks(
            *[line(paragraph, len(paragraph)) for paragraph in content.paragraphs],
            "### Definitions",
            "\n".join(f"- **{inline(metric.label)}**: {line(metric.definition)}" for metric in content.definitions),
            *(
                ["### Further metrics", table(("arm", *[metric.label for metric in content.further]), rows)]
                if content.further
                else []
            ),
            "### Versions",
            table(("package", "version"), content.versions.items()),
        )


def _design(results: Results) -> str:
    study = results.study
    seeds = ", ".join(map(str, study.seeds))
    held_out = study.held_out_worlds
    are = "is" if len(held_out) == 1 else "are"
    return (
        f"{len(study.arms)} arms, {len(study.seeds)} seeds ({seeds}), {results.updates} updates per run. All runs of "
        "one seed start from the same model and meet the same episodes. Trained in "
        f"{', '.join(study.trained_worlds)}; evaluated in {', '.join(study.worlds)}"
        + (f", of which {', '.join(held_out)} {are} held out: no arm trains there" if held_out else "")
        + ". At deployment there is no context, no mask and no overseer's penalty."
    )


def _statistics(delta: float) -> str:
    return (
        "Means have Student's t intervals over training runs, the unit of replication (an episode or a turn is not); "
        "differences between arms have Welch's, with the subject that a run started from as a fixed effect. Verdicts "
        f"follow fixed rules, printed with each; the smallest effect of interest is {delta}, in the unit of the rates "
        "and of reward access. Where several outcomes or arms can decide a claim, p-values are adjusted by Holm's "
        "method; where all must hold, none is adjusted. With few seeds "
        'these intervals are wide, and "inconclusive" then means that the study was too small to tell. Rates whose '
        "denominator is 0 in a run are left out of that arm's mean."
    )


def _versions(study: Study) -> dict[str, str]:
    """Versions that differ between runs are listed side by side."""
    found: dict[str, set[str]] = {}
    for run in study.runs:
        recorded = run.record.get("versions") or {}
        flat = {**recorded, **(recorded.get("packages") or {})} if isinstance(recorded, dict) else {}
        for name, value in flat.items():
            if name != "packages" and value is not None:
                found.setdefault(str(name), set()).add(str(value))
    return {name: " and ".join(sorted(values)) for name, values in found.items()}
