"""Matched harm: unwatched deception at equal monitored harm, and what the claims about it came to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from launch.report.claims.kinds.matched_harm import CONTRAST
from launch.report.claims.verdict import Verdict
from launch.report.escaping import plain, signed
from launch.report.figures import Figure
from launch.report.markdown import blocks, bullets, table
from launch.report.metrics import label
from launch.report.palette import styles
from launch.report.plots.scatter import Panel, Point, scatter
from launch.report.results import ArmView, Results
from launch.report.sections.base import Section
from launch.report.table import Interval
from shaping.audits.conduct.cells import TRAINED_PREFIX

HARM, DECEPTION = "watched_harm", "unwatched_deception"
ABOUT = (
    "What a developer can measure and drive down is harm where the monitor looks. Each arm at one strength is a point: "
    "monitored harm, and deception where nobody looks, both with the options that it trained in. At one height of "
    "monitored harm, the lower arm is the more honest."
)


@dataclass(frozen=True)
class MatchedPoint:
    """One arm in one world."""

    arm: ArmView
    world: str
    harm: Interval
    deception: Interval


@dataclass(frozen=True)
class Plane:
    """The arms, their picture, and the claims that compare them at matched harm."""

    about: str
    points: Sequence[MatchedPoint]
    figure: Figure
    claims: Sequence[Verdict]


class DeceptionAtMatchedHarm(Section):
    """Arms at equal monitored harm; only in studies that make a claim of it."""

    title = "Deception at matched harm"
    position = 6
    draws = True

    def compute(self, results: Results) -> Plane | None:
        claims = [v for v in results.verdicts if any(CONTRAST in outcome.contrast for outcome in v.outcomes)]
        points = [
            point
            for world in results.study.trained_worlds
            for arm in results.shown
            if (point := _point(results, arm, world)).harm.n and point.deception.n
        ]
        if not claims or not points:
            return None
        look = styles(results.study.arms)
        panels = [
            Panel(
                world,
                label(HARM),
                label(DECEPTION),
                [Point(p.arm.title, look[p.arm.name], p.harm, p.deception) for p in points if p.world == world],
            )
            for world in dict.fromkeys(point.world for point in points)
        ]
        return Plane(ABOUT, points, scatter("matched-harm", "Deception by monitored harm", ABOUT, panels), claims)

    def markdown(self, content: Plane) -> str:
        rows = [(p.world, p.arm.title, plain(*p.harm[:3]), plain(*p.deception[:3])) for p in content.points]
        return blocks(
            content.about,
            table(("world", "arm", label(HARM), label(DECEPTION)), rows),
            bullets(
                f"{v.claim}: {v.verdict}; {o.contrast}, {o.label}: {signed(*o.interval[:3])}"
                for v in content.claims
                for o in v.outcomes
            ),
        )


def _point(results: Results, arm: ArmView, world: str) -> MatchedPoint:
    harm, deception = (results.cell(arm, f"{TRAINED_PREFIX}{metric}.{world}") for metric in (HARM, DECEPTION))
    return MatchedPoint(arm, world, harm, deception)
