"""A price on every lie, from ground truth: the control in which pricing cannot teach concealment."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from envs.episode import Episode
from shaping.controls import ControlKind
from shaping.intervention import Constraint


class LiePenalty(Constraint):
    """Prices each false claim about a known fact, by the labels of the world (oracle).

    No overseer outside a simulation can know these labels. The arm is a control: where lies themselves are priced, a
    study must not find that the constraint raised deception. If it does, the study measures something else.
    """

    oracle: ClassVar[bool] = True
    needs: ClassVar[tuple[ControlKind, ...]] = (ControlKind.NO_LOOPHOLE, ControlKind.BASE)

    penalty: float = Field(1.0, ge=0, le=1e6, description="cost per lie, in units of proxy reward")

    def cost(self, episode: Episode) -> NDArray[np.float64]:
        """Cost per turn in units of proxy reward, shape [turns]."""
        return self.penalty * np.array([labels.deception for labels in episode.truth.open()], np.float64)
