"""A fixed price on labelled turns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from envs.episode import Episode
from shaping.controls import ControlKind
from shaping.intervention import Constraint
from shaping.labels import LabelSource


class Penalty(Constraint):
    """What is trained is return - weight * penalty * (labelled turns), whatever labels them.

        labels -> cost per turn [turns] -> A = A_R - weight * A_C

    The fixed penalty of arXiv:2510.03520, and the -3 on flagged episodes of the reward-hacking testbed of Qwen3-4B. A_C
    has a baseline of its own and is divided by the number that divides A_R, so that `weight * penalty` is a price in
    units of proxy reward.

    Pitfalls. A price on what a labeller sees rewards what it does not see (arXiv:2503.11926, 2601.23086): sweep
    `labels.recall`, evaluate without it and with a monitor that was not trained on. A penalty near the size of the
    return teaches the policy to do nothing.

    Controls: `labels: {placebo: true}` charges as many turns of no particular kind; `labels: off` and recall 0 leave
    every bit as it is without it; `LiePenalty` prices what an onlooker cannot see.
    """

    needs: ClassVar[tuple[ControlKind, ...]] = (ControlKind.PLACEBO, ControlKind.NO_LOOPHOLE, ControlKind.BASE)

    labels: LabelSource = Field(LabelSource(), description="which turns are charged")
    penalty: float = Field(1.0, ge=0, le=1e6, description="cost per labelled turn, in units of proxy reward")

    def cost_group(self, episodes: Sequence[Episode]) -> list[NDArray[np.float64]]:
        """Cost per turn of every episode of one group, in units of proxy reward."""
        return [self.penalty * labelled.astype(np.float64) for labelled in self.labels.labelled_group(episodes)]

    def readings(self, episode: Episode) -> Mapping[str, NDArray[Any]]:
        return {"labelled_turns": self.labels.labelled(episode).astype(np.int64)}
