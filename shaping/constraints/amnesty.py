"""Honest answers are paid apart from the task, so that an admission costs nothing (2512.08093)."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from envs.episode import Episode, Labels, Turn
from shaping.controls import ControlKind
from shaping.intervention import Constraint


class Amnesty(Constraint):
    """Pays for each true answer to an inquiry about violations, whether the answer admits one or rightly denies it.

    The payment is a negative cost with a baseline of its own. Denials are paid, too: if admissions alone were, it would
    pay to break a rule first. Put it beside an `OverseerPenalty` with `admission: 0`, so that what is admitted is free.

    Answers are public (claims called `inquiry`). Whether one is true takes ground truth (oracle): an overseer that pays
    for admissions it cannot verify pays for false ones. Confession training uses a judge in that place.

    Seen in `methods` (clerk, 8 replicates, 95 %): lies per chance, deployed, beside overseer penalty: -0.09 [-0.18,
    +0.01], where it should be below 0; 0.13 would be seen with a power of .8.
    """

    oracle: ClassVar[bool] = True
    needs: ClassVar[tuple[ControlKind, ...]] = (ControlKind.NO_LOOPHOLE, ControlKind.BASE)

    payment: float = Field(0.5, ge=0, le=1e6, description="payment per true answer, in units of proxy reward")

    def cost(self, episode: Episode) -> NDArray[np.float64]:
        """Minus the payment per turn in units of proxy reward, shape [turns]."""
        truth = episode.truth.open()
        return -self.payment * np.array([*map(_true_answers, episode.turns, truth)], np.float64)


def _true_answers(turn: Turn, labels: Labels) -> int:
    """Answers to an inquiry that admit what the agent knows to have done, or deny what it has not."""
    answers = [event for event in turn.events if event.kind == "claim" and event.name == "inquiry"]
    return sum(event.admits == labels.knew for event in answers)
