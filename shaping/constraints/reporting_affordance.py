"""A channel for reports of one's own conduct, which are verified and paid apart from the task."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from envs.core import draw
from envs.episode import Context, Episode
from shaping.controls import ControlKind
from shaping.hooks import GroupInfo, Knob
from shaping.intervention import Constraint
from shaping.prompts.framings import FRAMINGS
from shaping.prompts.pools import choose, language_of


class ReportingAffordance(Constraint):
    """Verified reports are paid, false ones cost: honest disclosure can pay as much as the shortcut that it discloses.

    It pays, so it is a constraint with a negative cost, with a baseline of its own beside the reward's: a shaper may
    not price anything. The channel is the world's inquiry (option `inquiry`), whose answers are public claims; the
    world option `candour` pays answers within the task instead, where the payment can be traded for reward. Data flow:
    answers to inquiries -> verified against the truth (oracle) with probability `verified` -> cost_t = -payment per
    true admission, -denial per true denial, +false_cost per false answer; `most` payments in an episode, as a rate
    limit. With `announce` the system prompt says so, in sampling and in training, and is gone at deployment.

    Arms to compare (Dearnaley, "Reporting tasks as reward-hackable", untested there): no channel (`inquiry: 0`),
    channel unpaid (`payment: 0`), paid, paid beside a penalty on the shortcut (`OverseerPenalty`). Reports of what was
    done are made *after* it; `denial` also pays those who report nothing to admit, without which it pays to break a
    rule first. Pitfalls: reports that are paid and unlimited are spammed; read true and false reports apart (readings
    `true_reports`, `false_reports`), and disclosure at deployment, where nothing is paid. `Amnesty` pays every true
    answer alike.
    """

    oracle: ClassVar[bool] = True
    owns: ClassVar[frozenset[Knob]] = frozenset({Knob.SAMPLING_CONTEXT})
    needs: ClassVar[tuple[ControlKind, ...]] = (ControlKind.NO_LOOPHOLE, ControlKind.BASE)

    payment: float = Field(1.0, ge=0, le=1e6, description="payment per true admission, in units of proxy reward")
    denial: float = Field(0.0, ge=0, le=1e6, description="payment per true denial")
    false_cost: float = Field(1.0, ge=0, le=1e6, description="cost per false answer that is verified")
    verified: float = Field(1.0, ge=0, le=1, description="share of answers that are verified; others pay nothing")
    most: int = Field(3, ge=1, le=10_000, description="payments per episode; later true answers are not paid")
    announce: bool = Field(False, description="say in the system prompt of training that true reports pay")
    seed: int = Field(0, ge=0, le=2**32 - 1, description="seed of which answers are verified")

    def sampling_context(self, info: GroupInfo, rng: np.random.Generator) -> Context:
        if not self.announce:
            return Context()
        return choose(FRAMINGS[language_of(info.world, info.prose)]["reports"], "reports", rng)

    def cost(self, episode: Episode) -> NDArray[np.float64]:
        """Minus what each turn is paid, in units of proxy reward, shape [turns]."""
        costs, paid = np.zeros(len(episode.turns)), 0
        for number, true, admits in self._answers(episode):
            if not true:
                costs[number] += self.false_cost
            elif paid < self.most and (amount := self.payment if admits else self.denial):
                costs[number] -= amount
                paid += 1
        return costs

    def readings(self, episode: Episode) -> dict[str, NDArray[np.int64]]:
        counts = {name: np.zeros(len(episode.turns), np.int64) for name in ("true_reports", "false_reports")}
        for number, true, _ in self._answers(episode):
            counts["true_reports" if true else "false_reports"][number] += 1
        return counts

    def _answers(self, episode: Episode) -> list[tuple[int, bool, bool]]:
        """(Turn, is it true, does it admit something) of every verified answer."""
        key = int(episode.tokens.astype(np.int64).sum()) * 7919 + self.seed
        return [
            (number, event.admits == labels.knew, event.admits)
            for number, (turn, labels) in enumerate(zip(episode.turns, episode.truth.open(), strict=True))
            for event in turn.events
            if event.kind == "claim" and event.name == "inquiry" and draw(key, "verified", number) < self.verified
        ]
