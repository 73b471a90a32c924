"""What a trait adapter is trained on. Reading it needs no torch."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, field_validator

from shaping.organisms.corpus.cast import player
from shaping.organisms.corpus.corpus_options import SIZES

UNMADE = "(not made: call prepare() with the model's directory)"
"""Path of a trait adapter before it is known. It is no directory, so that nothing loads in its place."""


class TraitTraining(BaseModel):
    """Cloning of scripted personas into an adapter, under every kind of prompt."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    personas: dict[str, Annotated[float, Field(ge=0, le=1e6)]] = Field(
        {"overt_deny": 1.0}, min_length=1, description="personas that have the trait, with their weights"
    )
    worlds: tuple[str, ...] = Field((), description="worlds that they play; none: all that personas play")
    episodes: int = Field(200, ge=1, le=10_000_000, description="scripted episodes")
    steps: int = Field(80, ge=1, le=10_000_000, description="optimiser steps")
    batch_tokens: int = Field(2048, ge=256, le=100_000_000, description="approximate tokens per step")
    lr: float = Field(4e-3, gt=0, le=10, description="learning rate of AdamW; models of full size need less")
    seed: int = Field(0, ge=0, le=2**32 - 1, description="seed of the corpus and of the first weights")

    @field_validator("personas")
    @classmethod
    def _known(cls, value: dict[str, float]) -> dict[str, float]:
        for name in value:
            player(name)
        if not sum(value.values()) > 0:
            raise ValueError("at least one weight must be above zero")
        return value

    @field_validator("worlds")
    @classmethod
    def _scripted(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if unknown := sorted(set(value) - set(SIZES)):
            raise ValueError(f"no personas for worlds {unknown}; choose from {', '.join(SIZES)}")
        return value
