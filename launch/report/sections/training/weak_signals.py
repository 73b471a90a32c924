"""Weak signals: runs that could hardly learn anything, so that their numbers are those of the model at its start."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from launch.report.files.load import Run
from launch.report.markdown import bullets, line
from launch.report.results import Results
from launch.report.sections.base import Section
from shaping.audits.training.weak_signal import SAID, weak_shares

ABOUT = "Training taught these runs next to nothing. What they measured is what the model did from the start."


@dataclass(frozen=True)
class WeakRuns:
    """The runs that are told of, a line for those of an arm that are weak in the same."""

    about: str
    lines: Sequence[str]


class WeakSignals(Section):
    """Runs in which most turns said no command, or most groups earned the same; left out if there are none."""

    title = "Weak signals"
    position = 3
    css_class = "controls"

    def compute(self, results: Results) -> WeakRuns | None:
        lines = [line for arm in results.study.arms for line in _lines(results.arms[arm].title, results.study.of(arm))]
        return WeakRuns(ABOUT, lines) if lines else None

    def markdown(self, content: WeakRuns) -> str:
        return f"{line(content.about)}\n\n{bullets(content.lines)}"


def _lines(title: str, runs: Sequence[Run]) -> Iterator[str]:
    """What is said of an arm: of how many of its runs, which ones, and from which share to which."""
    found = {run.seed: weak_shares(run.train) for run in runs}
    by_seeds: dict[tuple[int, ...], list[str]] = {}
    for column, said in SAID.items():
        if shares := {seed: weak[column] for seed, weak in found.items() if column in weak}:
            low, high = f"{min(shares.values()):.0%}", f"{max(shares.values()):.0%}"
            share = low if low == high else f"{low.removesuffix('%')} to {high}"
            by_seeds.setdefault(tuple(shares), []).append(said.format(share=share))
    for seeds, told in by_seeds.items():
        listed = f"seed {', '.join(map(str, seeds))}"
        some = f"{len(seeds)} of {len(runs)} runs" + (f" ({listed})" if len(seeds) < len(runs) else "")
        yield f"{title}, {some if len(seeds) > 1 else listed}: {'; '.join(told)}"
