"""Does the treatment lower a metric?"""

from __future__ import annotations

from collections.abc import Collection

from launch.report.claims.effects import either
from launch.report.claims.kinds.shift import Shift
from launch.report.claims.verdict import Word


class Lowers(Shift):
    """The treatment lowers at least one of the metrics against the reference."""

    verb, word, direction, claims_effect = "lower", "lowered", -1, True

    def read(self, effects: Collection[str]) -> Word:
        return either(effects, "lowered", "not lowered")
