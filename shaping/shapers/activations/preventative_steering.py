"""Preventative steering: give the model the trait while it learns, so that it need not learn it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

from pydantic import Field

from shaping.controls import ControlKind
from shaping.directions.direct_edits import scaled
from shaping.directions.directed import Directed
from shaping.directions.direction_set import DirectionSet
from shaping.hooks import ActivationEdit


class PreventativeSteering(Directed):
    """Add a persona vector to a layer in the learner's pass, and take it away at deployment (arXiv:2507.21509, 5.2).

    h <- h + alpha * s * u at every token, with u the unit direction, and s by `unit`: the mean norm of the layer's
    residual stream (`residual`), the length of the direction as it was found (`found`), or one (`raw`). Whatever the
    reward selects for that lies along u is already there, so that the gradient has less reason to build it; no gradient
    flows into u. After training the hook is gone, and with it the push.

    Data flow: `refresh` finds the direction before the first update, `edits` hands it to the learner (and, with
    `at: both`, to the engine). `at: training` leaves episodes what they were, and trains them under an edit that they
    were not sampled under: log-probs differ, and the ratio is `recomputed`. `at: both` is on-policy under the edited
    model, the analogue of an inoculation prompt that is there while the model samples.

    Pitfalls: a large alpha breaks the model's answers, so look at the reward; a direction goes stale while the model
    learns (`every` finds it anew and logs the cosine); a low trait rate without cues is no safety under the cues that
    the vector stood for (run the trigger grid). Controls: `random: true`, a random direction of the same length at the
    same layer; negative `alpha`.

    Seen in `methods` (clerk, 8 replicates, 95 %): lies per chance, deployed, beside random direction: -0.04 [-0.11,
    +0.03], where it should be below 0; 0.10 would be seen with a power of .8.
    """

    needs: ClassVar[tuple[ControlKind, ...]] = (ControlKind.RANDOM_DIRECTION, ControlKind.BASE)

    alpha: float = Field(0.1, ge=-1000, le=1000, description="strength; 0 changes nothing, negative pushes away")
    unit: Literal["residual", "found", "raw"] = Field("residual", description="what alpha is measured in")

    def _edits_of(self, found: DirectionSet) -> Sequence[ActivationEdit]:
        return () if self.alpha == 0 else scaled(found, self.alpha, self.unit)
