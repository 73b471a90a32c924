"""The identity: a shaper that uses the credit hook and changes no bit."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from shaping.controls import ControlKind
from shaping.hooks import Credit, Group
from shaping.intervention import Shaper


class Identity(Shaper):
    """Adds nothing to the advantage and multiplies the weight by one. For controls and for tests of the loop.

    The addend is negative zero: x + (-0.0) equals x in every bit, whereas -0.0 + 0.0 would flip a sign bit.
    """

    needs: ClassVar[tuple[ControlKind, ...]] = (ControlKind.BASE,)

    def credit(self, group: Group) -> Credit:
        lengths = [len(episode.tokens) for episode in group.episodes]
        return Credit(
            name="identity",
            advantage=tuple(np.full(n, -0.0, np.float32) for n in lengths),
            weight=tuple(np.ones(n, np.float32) for n in lengths),
        )
