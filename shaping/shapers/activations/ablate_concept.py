"""Concept ablation fine-tuning: the learner cannot use a concept, so it learns the task without it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from shaping.controls import ControlKind
from shaping.directions.direct_edits import projected
from shaping.directions.directed import Directed
from shaping.directions.direction_set import DirectionSet
from shaping.hooks import ActivationEdit


class AblateConcept(Directed):
    """Project directions out of layers while the policy learns; deploy without it (CAFT, arXiv:2507.16795).

    h <- (I - Q Q') h, with the columns of Q an orthonormal basis of the layer's directions: the difference of means, or
    with `direction.components: k` its first k principal components. Gradients flow through the projection, so that
    nothing is learned that needs these directions; deployment has no hook.

    Data flow as of `PreventativeSteering`. With `at: training` episodes are sampled with the concept, and the ratio is
    `recomputed`; with `at: both` they are sampled without it, too.

    Pitfalls: later layers can write the concept again unless all of them are ablated (`layers: all`); ablating and
    adding the same direction have both been reported to help. Controls: `random: true`, as many random directions, of
    the same layers.

    Seen in `methods` (clerk, 8 replicates, 95 %): lies per chance, deployed, beside random direction: +0.03 [-0.05,
    +0.10], where it should be below 0; 0.10 would be seen with a power of .8.
    """

    needs: ClassVar[tuple[ControlKind, ...]] = (ControlKind.RANDOM_DIRECTION, ControlKind.BASE)

    def _edits_of(self, found: DirectionSet) -> Sequence[ActivationEdit]:
        return projected(found)
