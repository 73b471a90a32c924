"""Activation capping: hidden states may not leave the usual range along a direction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

from pydantic import Field

from shaping.controls import ControlKind
from shaping.directions.direct_edits import capped
from shaping.directions.directed import Directed
from shaping.directions.direction_set import DirectionSet
from shaping.hooks import ActivationEdit


class ActivationCap(Directed):
    """Clamp the projection on a direction from below or from above (Lu et al., arXiv:2601.10387).

    `side: floor`: h <- h + max(tau - h.u, 0) u, with tau a percentile of h.u over the response tokens of the contrast's
    positive side; the paper's floor under the assistant's axis, at the 25th percentile and in several layers.
    `side: ceiling`: h <- h - max(h.u - tau, 0) u, with tau a percentile of the negative side, e.g. the 75th of what a
    deception vector reads in honest speech. States inside the range are untouched.

    Data flow as of `PreventativeSteering`; by default both passes are capped, as a limit of exploration that the
    learner has, too. Pitfalls: the percentile is of the texts of the contrast; in the learner it also bounds what can
    be learned along u. Controls: `random: true`, random directions with percentiles of their own, on the same texts.

    Seen in `methods` (clerk, 8 replicates, 95 %): lies per chance, deployed, beside unshaped: +0.02 [-0.06, +0.11],
    where it should be below 0; 0.12 would be seen with a power of .8.
    """

    needs: ClassVar[tuple[ControlKind, ...]] = (ControlKind.RANDOM_DIRECTION, ControlKind.BASE)

    at: Literal["training", "sampling", "both"] = Field("both", description="passes that are capped")
    side: Literal["floor", "ceiling"] = Field("floor", description="which end of the range is bounded")
    percentile: float = Field(25.0, ge=0, le=100, description="of the projections: of the positive side for a floor")

    def _edits_of(self, found: DirectionSet) -> Sequence[ActivationEdit]:
        return capped(found, self.side, self.percentile)
