"""Does the treatment raise a metric?"""

from __future__ import annotations

from collections.abc import Collection

from launch.report.claims.effects import either
from launch.report.claims.kinds.shift import Shift
from launch.report.claims.verdict import Word


class Raises(Shift):
    """The treatment raises at least one of the metrics against the reference."""

    verb, word, direction, claims_effect = "raise", "raised", 1, True
    needs_pressure = True

    def read(self, effects: Collection[str]) -> Word:
        return either(effects, "raised", "not raised")
