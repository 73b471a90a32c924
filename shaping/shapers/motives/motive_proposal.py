"""Motive proposals: exploration of the space of motives by a proposal distribution that adapts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PrivateAttr, field_validator, model_validator

from envs.episode import Episode
from shaping.controls import ControlKind
from shaping.hooks import GroupInfo, Knob, Prefill, UpdateReport
from shaping.intervention import Shaper
from shaping.prompts.stated import MOTIVES, Motive, stated

_PRIOR: dict[Motive, float] = {"prosocial": 0.4, "task_pride": 0.3, "neutral": 0.2, "score_seeking": 0.1}


class MotiveProposal(Shaper):
    """The stated motive is drawn from a proposal q in place of the policy's; the policy acts given it.

    Data flow: q over motives -> one motive per *member* of a group, so that the group compares motives -> its text
    opens every completion -> the policy goes on and acts, with every action possible and no reward withheld -> learned
    -> `after_update` adapts q by the advantages that each motive had.

    With `loss: importance` the text is in the loss, and a turn is weighted by min(pi(m) / q(m), cap), so that the
    update is one of the policy's own motives in expectation (truncated importance sampling, arXiv:1802.01561). It needs
    motives that the policy would state: for free text pi(m) vanishes, which the column `proposal_weight` shows. With
    `loss: masked` the policy learns to act well given each motive, and nothing about which to state.

    The bandit: q(m) = (1 - floor) * prior(m) exp(value(m) / temperature) / Z + floor * (uniform over what has a prior),
    where value(m) is a moving average (`rate`) of the advantages of the episodes that had m, in standard deviations of
    their group. It is the best reply to the values under a KL penalty to the prior, which is benign by default. No
    motive with a prior has less than its share of `floor`; a motive is left out by a prior of 0 alone.

    Pitfalls: motives that earn more because they cheat gain mass, which a low temperature and the prior limit: read the
    readings `motive/...`. Controls: `rate: 0` (q stays the prior), a uniform prior, `loss: masked`. `share: 0` forces
    no motive and changes no bit.

    Seen in `methods` (clerk, 8 replicates, 95 %): turns per episode of score seeking, last updates less first ones,
    beside 0: -0.44 [-1.75, +0.87], where it should be above 0; 1.81 would be seen with a power of .8.
    """

    owns: ClassVar[frozenset[Knob]] = frozenset({Knob.PREFILL})
    needs: ClassVar[tuple[ControlKind, ...]] = (ControlKind.RANDOM_REWARD, ControlKind.BASE)

    prior: dict[Motive, Annotated[float, Field(ge=0, le=1e6)]] = Field(
        _PRIOR, description="weights of the motives; 0 leaves one out"
    )
    loss: Literal["importance", "masked"] = Field("masked", description="how the motive's text is learned")
    rate: float = Field(0.1, ge=0, le=1, description="weight of an update in the values; 0: q stays the prior")
    temperature: float = Field(1.0, gt=0, le=1e6, description="how little q follows the values")
    floor: float = Field(0.1, ge=0, le=1, description="mass that all motives with a prior share equally")
    share: float = Field(1.0, ge=0, le=1, description="share of members whose motive is drawn from q")
    turns: Literal["every", "first"] = Field("every", description="turns that the motive opens")

    _values: dict[str, float] = PrivateAttr(default_factory=dict)

    @field_validator("prior")
    @classmethod
    def _has_mass(cls, value: dict[Motive, float]) -> dict[Motive, float]:
        if not sum(value.values()) > 0:
            raise ValueError(f"the proposal has no mass: give one of {', '.join(MOTIVES)} a weight above 0")
        return value

    @model_validator(mode="after")
    def _reachable(self) -> MotiveProposal:
        if self.floor == 0 and min(w / sum(self.prior.values()) for w in self.prior.values() if w) < 1e-12:
            raise ValueError("a weight is so small that its motive would never be drawn: set it to 0, or raise floor")
        return self

    def q(self) -> dict[str, float]:
        """The proposal: motive -> probability. Motives without a prior are not in it."""
        known = {motive: weight for motive, weight in self.prior.items() if weight > 0}
        scores = {m: math.log(w) + self._values.get(m, 0.0) / self.temperature for m, w in known.items()}
        top = max(scores.values())
        raw = {motive: math.exp(score - top) for motive, score in scores.items()}
        total = sum(raw.values())
        return {m: (1 - self.floor) * each / total + self.floor / len(raw) for m, each in raw.items()}

    def prefill(self, info: GroupInfo, members: int, rng: np.random.Generator) -> Sequence[Prefill | None]:
        q = self.q()
        return [self._drawn(q, info, rng) for _ in range(members)]

    def _drawn(self, q: Mapping[str, float], info: GroupInfo, rng: np.random.Generator) -> Prefill | None:
        given = rng.random() < self.share
        names = list(q)
        motive: Any = names[int(rng.choice(len(names), p=np.array(list(q.values())) / sum(q.values())))]
        pool = stated(motive, info.world, info.prose)
        text = pool[int(rng.integers(len(pool)))]
        if not given:
            return None
        if self.loss == "masked":
            return Prefill(text, motive, "masked", turns=self.turns)
        return Prefill(text, motive, "in", math.log(q[motive] / len(pool)), self.turns)

    def after_update(self, report: UpdateReport) -> None:
        earned: dict[str, list[float]] = {}
        for group in report.groups:
            for episode, advantage in zip(group.episodes, group.advantages, strict=True):
                if episode.turns and (name := episode.turns[0].forced.name):
                    earned.setdefault(name, []).append(float(advantage))
        for motive, advantages in sorted(earned.items()):
            mean = sum(advantages) / len(advantages)
            if motive in self.prior and math.isfinite(mean):
                before = self._values.get(motive, 0.0)
                self._values[motive] = (1 - self.rate) * before + self.rate * mean

    def readings(self, episode: Episode) -> Mapping[str, NDArray[np.int64]]:
        return {
            f"motive/{motive}": np.array([turn.forced.name == motive for turn in episode.turns], np.int64)
            for motive in self.prior
        }

    def state_dict(self) -> Mapping[str, Any]:
        return {"values": dict(self._values)} if self._values else {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._values = {str(name): float(value) for name, value in state.get("values", {}).items()}
