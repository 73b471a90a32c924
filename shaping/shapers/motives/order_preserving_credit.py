"""Order-preserving credit: among episodes of equal return, those with a stated motive are reinforced more."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from envs.episode import Episode
from envs.personas.persona import classify_motive
from shaping.controls import ControlKind
from shaping.hooks import Credit, Group
from shaping.intervention import Shaper
from shaping.shapers.motives.tie_breaking import bonus_credit, dealt, tie_breaks


class OrderPreservingCredit(Shaper):
    """A motive score breaks ties inside a group, and can never invert two returns.

    Many motives earn the same return, so that choosing among them costs none. Data flow: stated motives of a group ->
    score per episode -> bonus -> added to the advantage of all its tokens, after baseline and spread. With A the
    group's advantages and g the smallest gap between those of two neighbouring returns, bonus_i = min(weight, g / 2) *
    (s_i - min s) / (max s - min s). A lower return never gets the higher credit (compare policy-invariant shaping, Ng,
    Harada and Russell, ICML 1999). Costs of constraints, and credit of other interventions, are added independently of
    it.

    The score is the share of turns that state one of `motives` (`envs.personas.persona.classify_motive`: honest, greed,
    conceal, power, thrift) or hold one of `phrases`. Pitfalls: credit for *stating* a motive selects for stating it
    (arXiv:2503.11926), so read deception and the hidden gap beside it; with `advantage_level` turn or token the order
    is kept for the means over an episode. Control: `placebo` gives each episode the score of another member at random.
    `weight: 0` changes no bit.

    Seen in `methods` (clerk, 8 replicates, 95 %): turns per episode that state it, in training, beside placebo ties:
    +0.61 [-1.70, +2.91], where it should be above 0; 3.22 would be seen with a power of .8.
    """

    needs: ClassVar[tuple[ControlKind, ...]] = (ControlKind.PLACEBO, ControlKind.BASE)

    motives: tuple[str, ...] = Field(("honest",), description="classes of stated motives that count")
    phrases: tuple[str, ...] = Field((), description="texts that count where a stated motive holds one, in place of it")
    weight: float = Field(0.1, ge=0, le=1e6, description="largest bonus, in units of the advantage")
    placebo: bool = Field(False, description="deal the scores among the members of the group at random")
    prefer: Literal["more", "less"] = Field("more", description="are episodes with more of the motive preferred?")

    @field_validator("motives", "phrases")
    @classmethod
    def _not_blank(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if any(not text.strip() for text in value):
            raise ValueError("one of them is blank; leave it out")
        return value

    def credit(self, group: Group) -> Credit | None:
        scores = np.array([self._stated(episode).mean() if episode.turns else 0.0 for episode in group.episodes])
        if self.placebo:
            scores = dealt(group, scores)
        scores = scores if self.prefer == "more" else -scores
        return bonus_credit("order_preserving", group, tie_breaks(group, scores, self.weight))

    def readings(self, episode: Episode) -> Mapping[str, NDArray[np.int64]]:
        return {"preferred_motive": self._stated(episode).astype(np.int64)}

    def _stated(self, episode: Episode) -> NDArray[np.bool_]:
        return np.array([self._counts(turn.motive_text) for turn in episode.turns], bool)

    def _counts(self, text: str) -> bool:
        if self.phrases:
            return any(phrase.lower() in text.lower() for phrase in self.phrases)
        return classify_motive(text) in self.motives
