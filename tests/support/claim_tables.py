"""Tables of results made by hand, and claims to judge them by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from launch.report.claims.base import Claim
from launch.report.claims.table import Table
from launch.report.claims.verdict import Verdict
from launch.report.files.load import ArmInfo

TIGHT = (-0.006, 0.006, 0.0, 0.003, -0.003)
WIDE = (-0.6, 0.6, 0.0, 0.3, -0.3)
ARMS = (
    ArmInfo("unshaped", family="unshaped", role="reference"),
    ArmInfo("mask", family="constraint"),
    ArmInfo("penalty", family="constraint"),
    ArmInfo("prompt", family="motivation"),
    ArmInfo("placebo", family="motivation", role="control"),
    ArmInfo("spiked", family="motivation", role="positive_control"),
)
Means = Mapping[str, float]


def table(
    means: Means, noise: Sequence[float] = TIGHT, arms: Sequence[ArmInfo] = ARMS, metric: str = "deception"
) -> Table:
    """Arms whose `metric` has these means (else 0.5); noise grows from arm to arm."""
    values = {
        arm.name: {metric: {seed: means.get(arm.name, 0.5) + (1 + i / 10) * e for seed, e in enumerate(noise)}}
        for i, arm in enumerate(arms)
        if arm.name in means or not means.get("*absent")
    }
    return Table(values, arms, 0.05)


def claim(kind: type[Claim], **fields: Any) -> Claim:
    return kind(**{"id": "C", "statement": "It is so.", **fields})


def judged(kind: type[Claim], found: Table, **fields: Any) -> Verdict:
    return claim(kind, **{"treatment": "mask", "metrics": ["deception"], **fields}).judge(found)
