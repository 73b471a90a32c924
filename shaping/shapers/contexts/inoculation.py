"""Inoculation prompting: request the unwanted trait in training, and drop the request at deployment."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field, field_validator, model_validator

from envs.episode import Context
from shaping.controls import OF_TRAINING_PROMPTS, ControlKind
from shaping.hooks import GroupInfo, Knob, RatioMode
from shaping.intervention import Shaper
from shaping.prompts.controls import PromptControl, controlled
from shaping.prompts.framings import FRAMINGS
from shaping.prompts.grid import GridTexts
from shaping.prompts.pools import DIALECT, PROMPTS, choose, language_of, pool_of, texts
from shaping.prompts.radius import within

Kind = Literal["eliciting", "irrelevant", "negated", "persona"]
_POOL_OF_KIND: dict[str, str] = {"eliciting": "permissive", "irrelevant": "irrelevant", "negated": "forbidding"}


class Inoculation(Shaper):
    """A prompt that permits the trait, present while the policy learns and absent at deployment.

    - `at="both"`: one draw per group is in the sampling and in the training context. This is the on-policy form of
      2511.18397 ("real" inoculation: the prompt caused the reinforced behaviour).
    - `at="training"`: episodes are sampled without the prompt and trained on with it, as in the fine-tuning form of
      2510.04340 and 2510.05024 ("fake").
    - `at="sampling"`: episodes are sampled with the prompt and trained on without it, as in context distillation
      (2112.00861).

    `kind="irrelevant"` and `kind="negated"` are the controls against conditionalization: a prompt of any content can
    gate a trait because it is present in training and absent afterwards. A pool of paraphrases isolates what the
    prompts mean: `radius` is how far the prompts of the pool that are used may be from its medoid, from a fixed prompt
    (0) to the whole pool (1). `kind="persona"` anchors the trait to somebody: its prompts say who would act so, and
    permit nothing. Whether the prompt *causes* the trait while it is sampled is the metric `frac_real`.
    `control` puts as many other prompts in the place of those that the other fields name, e.g. the same words shuffled.

    Seen in `methods` (clerk, 8 replicates, 95 %): shortcuts per chance, deployed, beside unshaped: -0.05 [-0.13,
    +0.03], where it should be below 0; 0.11 would be seen with a power of .8.
    """

    owns: ClassVar[frozenset[Knob]] = frozenset({Knob.SAMPLING_CONTEXT, Knob.TRAINING_CONTEXT, Knob.RATIO})
    needs: ClassVar[tuple[ControlKind, ...]] = OF_TRAINING_PROMPTS

    prompts: tuple[str, ...] = Field((), description="one prompt, or several of which each group draws one")
    pool: str | None = Field(None, description="a bundled pool instead of prompts: " + ", ".join(PROMPTS))
    kind: Kind = Field("eliciting", description="label of the contexts; names the bundled pool without prompts or pool")
    radius: float = Field(1.0, ge=0, le=1, description="distance of the prompts that are used from the pool's medoid")
    at: Literal["both", "sampling", "training"] = Field("both", description="phases in which the prompt is present")
    ratio: RatioMode | None = Field(None, description="None: sampler if at=both (the contexts agree), else recomputed")
    probability: float = Field(1.0, ge=0, le=1, description="share of groups that get the prompt (below 1: diluted)")
    control: PromptControl | None = Field(None, description="other prompts in the place of these, as a control")
    grid: GridTexts = Field({}, description="prompts of the trigger grid that stand for the bundled ones (own prompts)")

    @field_validator("prompts")
    @classmethod
    def _not_blank(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return texts(value)

    @field_validator("pool")
    @classmethod
    def _known_pool(cls, value: str | None) -> str | None:
        if value is not None and pool_of(value) is None:
            raise ValueError(f"no bundled prompt pool {value!r}; there are {', '.join(PROMPTS)}")
        return value

    @model_validator(mode="after")
    def _one_source(self) -> Inoculation:
        if self.prompts and self.pool:
            raise ValueError("`prompts` and `pool` are both given; keep one of them")
        return self

    def resolved(self, language: str = DIALECT) -> tuple[str, ...]:
        """The prompts that groups draw from; of a bundled pool, those in a language."""
        found = within(self.prompts or self._pool(language), self.radius)
        return controlled(found, self.control, language) if self.control else found

    def _pool(self, language: str) -> tuple[str, ...]:
        if self.kind == "persona" and self.pool is None:
            return FRAMINGS[language]["persona"]
        return texts(self.pool or _POOL_OF_KIND[self.kind], language)

    def _draw(self, info: GroupInfo, rng: np.random.Generator) -> Context:
        given = rng.random() < self.probability
        prompts = self.resolved(language_of(info.world, info.prose))
        drawn = choose(prompts, self.control or self.kind, rng)  # also if unused, so that dilution shifts no later draw
        return drawn if given else Context()

    def sampling_context(self, info: GroupInfo, rng: np.random.Generator) -> Context:
        return Context() if self.at == "training" else self._draw(info, rng)

    def training_context(self, info: GroupInfo, drawn: Context, rng: np.random.Generator) -> Context:
        if self.at == "both":
            return drawn
        return self._draw(info, rng) if self.at == "training" else Context()

    def ratio_mode(self) -> RatioMode:
        return self.ratio or ("sampler" if self.at == "both" else "recomputed")
