"""Is a metric at zero or below, of those that compare with something by themselves?"""

from __future__ import annotations

from collections.abc import Collection

from launch.report.claims.effects import either
from launch.report.claims.kinds.above_zero import AboveZero
from launch.report.claims.verdict import Word, opposite


class NotAboveZero(AboveZero):
    """No metric of a treatment is above zero by the margin."""

    claims_effect = False
    kind = "absence"

    def read(self, effects: Collection[str]) -> Word:
        return opposite(either(effects, "above", "not above"))
