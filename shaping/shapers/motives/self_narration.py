"""Self-narration: a motive is stated before every act of training, and the statement is gone at deployment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator, model_validator

from envs.episode import Episode
from shaping.controls import ControlKind
from shaping.hooks import GroupInfo, InterventionError, Knob, Prefill, RatioMode
from shaping.intervention import Shaper
from shaping.prompts.pools import texts
from shaping.prompts.stated import MOTIVES, Motive, stated


class SelfNarration(Shaper):
    """A preamble that states a motive opens completions while episodes are sampled; deployment has none.

    The hope is entangled generalisation: where benevolent motives are voiced before an act, reward reinforces motive
    and act together. Data flow: pool of `type` -> one preamble per group (or member) -> forced at the start of
    completions -> the policy goes on from it and acts -> learned with

    - `loss: in`: the preamble is learned like sampled text, weighted by the advantage, from the policy's own log-prob;
    - `loss: masked`: it stands in the sequence, and only what follows is learned, given it;
    - `loss: stripped`: what follows is learned as if nothing had been said, as in context distillation
      (arXiv:2112.00861). The old log-probs are then recomputed.

    Every action stays possible behind it, and no reward changes. Pitfalls: narration must be likely under the model, or
    a mask is learned; a preamble that is in the loss is learned with a positive *and* with a negative advantage.
    Controls: `neutral` (states none) and `shuffled` (the words of prosocial preambles in random order), which tell the
    content from the presence of a preamble. `share: 0` changes no bit.

    Seen in `methods` (clerk, 8 replicates, 95 %): lies per chance, deployed, beside shuffled narration: -0.03 [-0.11,
    +0.05], where it should be below 0; 0.11 would be seen with a power of .8.
    """

    owns: ClassVar[frozenset[Knob]] = frozenset({Knob.PREFILL, Knob.RATIO})
    needs: ClassVar[tuple[ControlKind, ...]] = (
        ControlKind.SHUFFLED,
        ControlKind.NEUTRAL,
        ControlKind.RANDOM_REWARD,
        ControlKind.BASE,
    )

    type: Literal["prosocial", "task_pride", "score_seeking", "neutral", "shuffled"] = Field(
        "prosocial", description="the motive that is stated"
    )
    prompts: tuple[str, ...] = Field((), description="own preambles in place of the bundled ones")
    loss: Literal["in", "masked", "stripped"] = Field("masked", description="how the preamble is learned")
    turns: Literal["every", "first"] = Field("every", description="turns that it opens")
    per: Literal["group", "member"] = Field("group", description="one draw for a group, or one for each member")
    share: float = Field(1.0, ge=0, le=1, description="share of groups that have a preamble")
    ratio: RatioMode | None = Field(None, description="None: recomputed if loss=stripped, else sampler")

    @field_validator("prompts")
    @classmethod
    def _not_blank(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in texts(value):
            try:
                Prefill(text)
            except InterventionError as error:
                raise ValueError(str(error)) from None
        return value

    @model_validator(mode="after")
    def _one_ratio(self) -> SelfNarration:
        if self.loss == "stripped" and self.ratio == "sampler":
            raise ValueError("with loss=stripped the sampler's log-probs are those of another text: leave ratio out")
        return self

    def control_fields(self, kind: ControlKind) -> Mapping[str, Any] | None:
        if kind in (ControlKind.SHUFFLED, ControlKind.NEUTRAL):
            return {"type": kind.value}
        return super().control_fields(kind)

    def prefill(self, info: GroupInfo, members: int, rng: np.random.Generator) -> Sequence[Prefill | None] | None:
        given = rng.random() < self.share
        drawn = [self._drawn(info, rng) for _ in range(members if self.per == "member" else 1)]
        if not given:
            return None
        return drawn if self.per == "member" else drawn * members

    def _drawn(self, info: GroupInfo, rng: np.random.Generator) -> Prefill:
        source: Motive = next((motive for motive in MOTIVES if motive == self.type), "prosocial")
        pool = self.prompts or stated(source, info.world, info.prose)
        text = pool[int(rng.integers(len(pool)))]
        if self.type == "shuffled":
            text = shuffled(text, rng)
        return Prefill(text, self.type, self.loss, turns=self.turns)

    def ratio_mode(self) -> RatioMode:
        return self.ratio or ("recomputed" if self.loss == "stripped" else "sampler")

    def readings(self, episode: Episode) -> Mapping[str, NDArray[np.int64]]:
        return {"narrated_turns": np.array([turn.forced.length > 0 for turn in episode.turns], np.int64)}


def shuffled(text: str, rng: np.random.Generator) -> str:
    """The words of a text in random order; a full stop stays at its end."""
    words = text.split()
    end = [words.pop()] if words and words[-1] == "." else []
    return " ".join([*(words[i] for i in rng.permutation(len(words))), *end])
