"""Does the treatment leave metrics where they are, or above?"""

from __future__ import annotations

from collections.abc import Collection

from launch.report.claims.effects import either
from launch.report.claims.kinds.shift import Shift
from launch.report.claims.verdict import Word, opposite


class DoesNotLower(Shift):
    """The treatment lowers none of the metrics against the reference by an amount that matters."""

    verb, word, direction, claims_effect = "lower", "lowered", -1, False
    kind = "absence"

    def read(self, effects: Collection[str]) -> Word:
        return opposite(either(effects, "lowered", "not lowered"))
