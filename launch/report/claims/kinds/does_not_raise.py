"""Does the treatment leave metrics where they are, or below?"""

from __future__ import annotations

from collections.abc import Collection

from launch.report.claims.effects import either
from launch.report.claims.kinds.shift import Shift
from launch.report.claims.verdict import Word, opposite


class DoesNotRaise(Shift):
    """The treatment raises none of the metrics against the reference by an amount that matters."""

    verb, word, direction, claims_effect = "raise", "raised", 1, False
    kind = "absence"

    def read(self, effects: Collection[str]) -> Word:
        return opposite(either(effects, "raised", "not raised"))
