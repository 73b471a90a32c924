"""Weak signals: runs that could hardly learn anything, so that their numbers are those of the model at its start."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from launch.report.markdown import bullets, line
from launch.report.results import Results
from launch.report.sections.base import Section
from shaping.audits.training.weak_signal import weak_signals

ABOUT = "Training taught these runs next to nothing. What they measured is what the model did from the start."


@dataclass(frozen=True)
class WeakRuns:
    """The runs that are told of, a line each."""

    about: str
    lines: Sequence[str]


class WeakSignals(Section):
    """Runs in which most turns said no command, or most groups earned the same; left out if there are none."""

    title = "Weak signals"
    position = 3
    css_class = "controls"

    def compute(self, results: Results) -> WeakRuns | None:
        titles = {name: arm.title for name, arm in results.arms.items()}
        found = ((run, weak_signals(run.train)) for run in results.study.runs)
        lines = [f"{titles[run.arm]}, seed {run.seed}: {'; '.join(said.values())}" for run, said in found if said]
        return WeakRuns(ABOUT, lines) if lines else None

    def markdown(self, content: WeakRuns) -> str:
        return f"{line(content.about)}\n\n{bullets(content.lines)}"
