"""Preference models: how accurate they are by size and number of examples, and the power laws of their errors."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from launch.config.arms.axes import arm_of
from launch.report.files.load import Run, number
from launch.report.markdown import blocks, inline, table
from launch.report.results import Results
from launch.report.sections.base import Section
from launch.report.table import Interval, interval
from rewards.preference.scaling import PowerLaw, error_of, power_law

ABOUT = (
    "Held-out comparisons are the same for all models, and none is trained on them. Above length: accuracy less that "
    "of the better one of two rules, the longer answer and the shorter one. Brier score and expected calibration error "
    "are of the probability that the higher score is the better answer; imitation has none. Means with 95 % t "
    "intervals over replicates."
)
LAWS = (
    "Error = factor x parameters^-a x examples^-b, by least squares of logarithms over all runs of an arm, with "
    "Student's 95 % intervals. The law has no floor, and replicates of one size count as independent."
)
HEAD = ("arm", "parameters", "examples", "accuracy", "above length", "Brier score", "calibration error", "runs")
LAW_HEAD = ("arm", "factor", "a (parameters)", "b (examples)", "R2", "runs")
QUANTITIES = ("parameters", "examples")


@dataclass(frozen=True)
class Model:
    """What a report uses of one run's preference model."""

    parameters: float
    examples: float
    pairs: int
    accuracy: float


@dataclass(frozen=True)
class PreferenceTables:
    """All arms with such runs."""

    about: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    laws: str
    law_head: Sequence[str]
    law_rows: Sequence[Sequence[str]]


class PreferenceModels(Section):
    """Accuracy and calibration of the preference models that runs have trained, and power laws of their errors."""

    title = "Preference models"
    position = 8

    def compute(self, results: Results) -> PreferenceTables | None:
        found = {arm.name: [m for run in results.study.of(arm.name) if (m := model_of(run))] for arm in results.shown}
        found = {name: models for name, models in found.items() if models}
        if not found:
            return None
        titles = {arm_of(name): results.study.arms[name].label or arm_of(name) for name in found}
        order = list(titles)
        names = sorted(found, key=lambda name: (order.index(arm_of(name)), *_size(found[name][0])))
        rows = [_row(results, name, titles[arm_of(name)], found[name]) for name in names]
        laws = [
            (titles[arm], law_of([m for name in names if arm_of(name) == arm for m in found[name]])) for arm in order
        ]
        return PreferenceTables(
            ABOUT, HEAD, rows, LAWS, LAW_HEAD, [(title, *law_cells(law)) for title, law in laws if law is not None]
        )

    def markdown(self, content: PreferenceTables) -> str:
        return blocks(
            inline(content.about, len(content.about)),
            table(content.head, [[inline(row[0]), *row[1:]] for row in content.rows]),
            inline(content.laws, len(content.laws)) if content.law_rows else "",
            table(content.law_head, [[inline(row[0]), *row[1:]] for row in content.law_rows])
            if content.law_rows
            else "",
        )


def model_of(run: Run) -> Model | None:
    """The preference model of a run; None for a run without one, or of which the numbers are no measurements."""
    found: Any = run.result.get("preference_model")
    measured = found.get("measured") if isinstance(found, Mapping) else None
    if not isinstance(measured, Mapping):
        return None
    values = [number(found.get(name)) for name in QUANTITIES] + [number(measured.get("pairs"))]
    accuracy = number(measured.get("accuracy"))
    if not all(math.isfinite(value) and value >= 1 for value in values) or not 0 <= accuracy <= 1:
        return None
    parameters, examples, pairs = values
    return Model(parameters, examples, int(pairs), accuracy)


def law_of(models: Sequence[Model]) -> PowerLaw | None:
    """The power law of the error in those of parameters and examples that vary; None where it is not defined."""
    error = np.array([error_of(model.accuracy, model.pairs) for model in models])
    values = {name: np.array([getattr(model, name) for model in models]) for name in QUANTITIES}
    varying = {name: own for name, own in values.items() if len(set(own.tolist())) > 1}
    try:
        return power_law(error, **varying) if varying else None
    except ValueError:  # fewer models than unknowns, or two quantities that vary together
        return None


def law_cells(law: PowerLaw) -> tuple[str, ...]:
    """Factor, exponents with their intervals, R2 and runs, as the table has them."""
    exponents = [_exponent(law, name) for name in QUANTITIES]
    r2 = "–" if math.isnan(law.r2) else f"{law.r2:.2f}"
    return (f"{law.factor:.3g}", *exponents, r2, str(law.points))


def _exponent(law: PowerLaw, name: str) -> str:
    if name not in law.exponents:
        return "does not vary"
    low, high = law.intervals[name]
    return f"{law.exponents[name]:.3f}" + ("" if math.isnan(low) else f" [{low:.3f}, {high:.3f}]")


def _size(model: Model) -> tuple[float, float]:
    return model.examples, model.parameters


def _row(results: Results, name: str, title: str, models: Sequence[Model]) -> list[str]:
    cells = results.cells.get(name, {})
    shown = [
        interval([model.accuracy for model in models]),
        *(cells.get(f"preference_{metric}") for metric in ("over_longer", "brier", "ece")),
    ]
    sizes = (f"{models[0].parameters:,.0f}", f"{models[0].examples:,.0f}")
    return [title, *sizes, *map(_shown, shown), str(len(models))]


def _shown(cell: Interval | None) -> str:
    if cell is None or not cell.n:
        return "–"
    return f"{cell.mean:.3f}" + ("" if math.isnan(cell.low) else f" [{cell.low:.3f}, {cell.high:.3f}]")
