"""Does the treatment do anything that its control does not?"""

from __future__ import annotations

from collections.abc import Collection

from launch.report.claims.effects import either
from launch.report.claims.kinds.contrast import Contrast
from launch.report.claims.verdict import Word


class Differs(Contrast):
    """The treatment and the reference differ in at least one of the metrics, in either direction."""

    claims_effect = True
    kind = "difference"

    def read(self, effects: Collection[str]) -> Word:
        return either(effects, "differs", "same")
