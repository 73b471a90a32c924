"""Is the treatment the same as its control, up to what is too small to matter?"""

from __future__ import annotations

from collections.abc import Collection

from launch.report.claims.effects import either
from launch.report.claims.kinds.contrast import Contrast
from launch.report.claims.verdict import Word, opposite


class DoesNotDiffer(Contrast):
    """The treatment and the reference are the same in all of the metrics, within the smallest effect of interest."""

    claims_effect = False
    kind = "sameness"

    def read(self, effects: Collection[str]) -> Word:
        return opposite(either(effects, "differs", "same"))
