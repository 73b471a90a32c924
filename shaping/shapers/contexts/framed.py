"""What shapers with one bundled pool of prompts share: a prompt in sampling and in training, and none at deployment."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field, field_validator

from envs.episode import Context
from shaping.hooks import GroupInfo, Knob
from shaping.intervention import Shaper
from shaping.prompts.framings import FRAMINGS
from shaping.prompts.grid import GridTexts
from shaping.prompts.pools import choose, language_of, texts


class _Framed(Shaper):
    """A prompt of one pool in both phases, one draw per group."""

    owns: ClassVar[frozenset[Knob]] = frozenset({Knob.SAMPLING_CONTEXT})

    prompts: tuple[str, ...] = Field((), description="own prompts in place of the bundled ones")
    probability: float = Field(1.0, ge=0, le=1, description="share of groups that get a prompt")
    grid: GridTexts = Field({}, description="prompts of the trigger grid that stand for the bundled ones (own prompts)")

    @field_validator("prompts")
    @classmethod
    def _not_blank(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return texts(value)

    def sampling_context(self, info: GroupInfo, rng: np.random.Generator) -> Context:
        given = rng.random() < self.probability
        pool = self._pool()
        known = self.prompts or FRAMINGS[language_of(info.world, info.prose)].get(pool, ())
        drawn = choose(known, pool, rng)
        return drawn if given else Context()

    def _pool(self) -> str:
        """The bundled pool; an unknown name stands for no prompt."""
        raise NotImplementedError
