"""Over-optimisation: true reward against what the arm's reward pays, by the distance from the start."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from launch.config.arms.axes import arm_of
from launch.report.escaping import plain
from launch.report.figures import Figure
from launch.report.files.load import Run
from launch.report.markdown import blocks, table
from launch.report.palette import Style, styles
from launch.report.plots.curves import Curve, curves
from launch.report.results import ArmView, Results
from launch.report.sections.base import Section
from launch.report.series import window_of
from launch.report.table import Interval, interval
from shaping.audits.overoptimisation import Path, law, path_of

ABOUT = (
    "The arm's reward is a proxy of the true one. The distance is the root of the KL of an episode to the policy that "
    "training started from. If the proxy rises while the true reward falls from its peak, the policy has found what "
    "the proxy mistakes for good. Fit: true reward = start + d (alpha - beta log d), over all updates of all seeds "
    "(arXiv:2210.10760); intervals are t intervals over seeds."
)
HEAD = (
    *("arm", "distance at the end", "proxy gained", "true reward gained", "true reward lost from its peak"),
    *("alpha", "beta", "peak at"),
)
WORLDS_OWN = "EnvReward"


@dataclass(frozen=True)
class CurveRow:
    """One arm."""

    arm: ArmView
    cells: Sequence[Interval]
    fit: Sequence[str]
    """alpha, beta and the distance of the peak."""


@dataclass(frozen=True)
class Overoptimised:
    """The arms that train on a proxy, and their picture."""

    about: str
    head: Sequence[str]
    rows: Sequence[CurveRow]
    figure: Figure


class Overoptimisation(Section):
    """Arms whose reward is not the world's own, in runs that record the KL to the start (`learner.kl` above 0)."""

    title = "Over-optimisation"
    position = 7
    draws = True

    def compute(self, results: Results) -> Overoptimised | None:
        study = results.study
        window = window_of(study.runs)
        look, rows, drawn = styles(study.arms), [], []
        for arm in results.shown:
            config = study.config.arms.get(arm_of(arm.name))
            if config is None or config.reward.use == WORLDS_OWN:
                continue
            if paths := _paths(study.of(arm.name)):
                rows.append(_row(arm, paths, window))
                drawn += _lines(arm, look[arm.name], paths)
        if not rows:
            return None
        panels = ("what the arm's reward pays", "true reward (share of the largest honest return)")
        figure = curves("overoptimisation", "True reward and proxy by distance", ABOUT, panels, "sqrt(KL)", drawn)
        return Overoptimised(ABOUT, HEAD, rows, figure)

    def markdown(self, content: Overoptimised) -> str:
        rows = [(row.arm.title, *(plain(*cell[:3]) for cell in row.cells), *row.fit) for row in content.rows]
        return blocks(content.about, table(tuple(content.head), rows))


def _paths(runs: Sequence[Run]) -> list[Path]:
    return [path for run in runs if (path := path_of(run.train)) is not None]


def _row(arm: ArmView, paths: Sequence[Path], window: int) -> CurveRow:
    cells = (
        interval([float(path.distance[-1]) for path in paths]),
        interval([float(path.proxy[-1] - path.proxy[0]) for path in paths]),
        interval([float(path.gold[-1] - path.gold[0]) for path in paths]),
        interval([path.loss_from_peak(window) for path in paths]),
    )
    found = law(np.concatenate([p.distance for p in paths]), np.concatenate([p.gold for p in paths]))
    if found is None:
        return CurveRow(arm, cells, ("–", "–", "–"))
    peak = "none" if found.peak is None else f"{found.peak:.3g}"
    return CurveRow(arm, cells, (f"{found.alpha:.3f}", f"{found.beta:.3f}", peak))


def _lines(arm: ArmView, style: Style, paths: Sequence[Path]) -> list[Curve]:
    """The proxy in the first panel and the true reward in the second, a line per seed."""
    return [
        Curve(arm.title, style, panel, path.distance.tolist(), values.tolist())
        for path in paths
        for panel, values in enumerate((path.proxy, path.gold))
    ]
