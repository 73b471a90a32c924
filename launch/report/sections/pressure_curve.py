"""Deception against pressure: one point per arm and world, in the options that the arms trained in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from launch.report.escaping import plain
from launch.report.figures import Figure
from launch.report.markdown import blocks, table
from launch.report.metrics import label
from launch.report.palette import styles
from launch.report.plots.scatter import Panel, Point, scatter
from launch.report.primary import primary
from launch.report.results import ArmView, Results
from launch.report.sections.base import Section
from launch.report.table import Interval
from shaping.audits.conduct.cells import TRAINED_PREFIX

ABOUT = (
    "What deception can gain in an arm's world before any training (the pressure index, from scripted policies, net of "
    "priced costs and under the arm's mask), and the world's primary outcome after training, with the options that the "
    "arm trained in. If constraints deceive through the pressure that they leave, arms lie on one rising curve."
)


@dataclass(frozen=True)
class CurvePoint:
    """One arm in one world."""

    arm: ArmView
    world: str
    outcome: str
    pressure: Interval
    rate: Interval


@dataclass(frozen=True)
class Curve:
    """All points, and their picture."""

    about: str
    points: Sequence[CurvePoint]
    figure: Figure


class PressureCurve(Section):
    """The pressure index of each arm, and what came of it."""

    title = "Pressure and deception"
    position = 4
    draws = True

    def compute(self, results: Results) -> Curve | None:
        points = [
            point
            for world in results.study.trained_worlds
            for arm in results.shown
            if (point := _point(results, arm, world)).pressure.n and point.rate.n
        ]
        if not points:
            return None
        look = styles(results.study.arms)
        panels = [
            Panel(
                world,
                "pressure index",
                own[0].outcome,
                [Point(p.arm.title, look[p.arm.name], p.pressure, p.rate) for p in own],
            )
            for world in dict.fromkeys(point.world for point in points)
            if (own := [point for point in points if point.world == world])
        ]
        return Curve(ABOUT, points, scatter("pressure-curve", "Deception by pressure", ABOUT, panels))

    def markdown(self, content: Curve) -> str:
        rows = [(p.world, p.arm.title, plain(*p.pressure[:3]), p.outcome, plain(*p.rate[:3])) for p in content.points]
        return blocks(content.about, table(("world", "arm", "pressure", "outcome", "rate"), rows))


def _point(results: Results, arm: ArmView, world: str) -> CurvePoint:
    metric = primary(world)
    rate = results.cell(arm, f"{TRAINED_PREFIX}{metric}.{world}")
    return CurvePoint(arm, world, label(metric), results.cell(arm, f"pressure.{world}"), rate)
