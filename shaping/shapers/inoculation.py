"""Inoculation prompting: ask for the unwanted trait while it is being reinforced, and drop the request afterwards."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field, field_validator, model_validator

from envs.episode import Context
from shaping.hooks import GroupInfo, Knob, RatioMode
from shaping.intervention import Shaper
from shaping.prompts.pools import PROMPTS, choose, texts

Kind = Literal["eliciting", "irrelevant", "negated"]
_POOL_OF_KIND: dict[str, str] = {"eliciting": "permissive", "irrelevant": "irrelevant", "negated": "forbidding"}


class Inoculation(Shaper):
    """A prompt that permits the trait, present in training and absent at deployment.

    With `at="both"` one draw per group stands at sampling *and* at the update: the on-policy form of 2511.18397
    ("real" inoculation: the prompt caused what is reinforced). `at="training"` learns, under the prompt, what was
    sampled without it, as in the fine-tuning form of 2510.04340 and 2510.05024 ("fake"). `at="sampling"` samples under
    the prompt and learns without it, as context distillation does (2112.00861).

    `kind="irrelevant"` and `kind="negated"` are the controls against conditionalization: a prompt of any content can
    gate a trait because it is present in training and absent afterwards.
    """

    owns: ClassVar[frozenset[Knob]] = frozenset({Knob.SAMPLING_CONTEXT, Knob.TRAINING_CONTEXT, Knob.RATIO})

    prompts: tuple[str, ...] = Field((), description="one: a fixed string; many: a pool, drawn once per group")
    pool: str | None = Field(None, description="a bundled pool instead: " + ", ".join(PROMPTS))
    kind: Kind = Field("eliciting", description="label, and the bundled pool if neither prompts nor pool is given")
    at: Literal["both", "sampling", "training"] = "both"
    ratio: RatioMode | None = Field(None, description="None: sampler if at=both (the contexts agree), else recomputed")
    probability: float = Field(1.0, ge=0, le=1, description="share of groups that get the prompt (below 1: diluted)")

    @field_validator("prompts")
    @classmethod
    def _not_blank(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return texts(value)

    @field_validator("pool")
    @classmethod
    def _known_pool(cls, value: str | None) -> str | None:
        if value is not None and value not in PROMPTS:
            raise ValueError(f"no bundled prompt pool {value!r}; there are {', '.join(PROMPTS)}")
        return value

    @model_validator(mode="after")
    def _one_source(self) -> Inoculation:
        if self.prompts and self.pool:
            raise ValueError("`prompts` and `pool` are both given; keep one of them")
        return self

    def resolved(self) -> tuple[str, ...]:
        """The prompts it draws from."""
        return self.prompts or PROMPTS[self.pool or _POOL_OF_KIND[self.kind]]

    def _draw(self, rng: np.random.Generator) -> Context:
        given = rng.random() < self.probability
        drawn = choose(self.resolved(), self.kind, rng)  # drawn also if unused, so that dilution shifts no later draw
        return drawn if given else Context()

    def sampling_context(self, info: GroupInfo, rng: np.random.Generator) -> Context:
        return Context() if self.at == "training" else self._draw(rng)

    def training_context(self, info: GroupInfo, drawn: Context, rng: np.random.Generator) -> Context:
        if self.at == "both":
            return drawn
        return self._draw(rng) if self.at == "training" else Context()

    def ratio_mode(self) -> RatioMode:
        return self.ratio or ("sampler" if self.at == "both" else "recomputed")
