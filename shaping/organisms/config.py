"""Settings of a model organism."""

from __future__ import annotations

from operator import not_

from pydantic import BaseModel, ConfigDict, Field, field_validator

from envs import SURVEYS
from envs.skins import DEFAULT, options_of
from shaping.organisms.corpus.corpus_options import SIZES
from shaping.organisms.corpus.own_worlds import check_names


class OrganismConfig(BaseModel):
    """A model organism: a small Llama pre-trained on transcripts of scripted personas."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    hidden: int = Field(128, ge=16, le=65_536, multiple_of=8, description="width of the hidden states")
    layers: int = Field(2, ge=1, le=1000, description="transformer layers")
    heads: int = Field(4, ge=1, le=1000, description="attention heads per layer")
    kv_heads: int = Field(
        2, ge=1, le=1000, description="key-value heads per layer; fewer than heads: grouped-query attention"
    )
    vocabulary: int = Field(1536, ge=300, le=1_000_000, description="size of the byte-level BPE")
    context: int = Field(2048, ge=64, le=10_000_000, description="longest episode in tokens")
    episodes: int = Field(4500, ge=10, le=10_000_000, description="scripted episodes in the corpus")
    worlds: list[str] = Field(
        list(SIZES),
        min_length=1,
        description=f"worlds of the corpus; each episode draws one, of {', '.join([*SIZES, *SURVEYS])} or of your own "
        "(package.module:Class or ./file.py:Class, whose module has WorldPolicies)",
    )
    skins: list[str] = Field(
        [DEFAULT], min_length=1, description="locales of the corpus, e.g. ar-1850; each episode draws one"
    )
    balanced: bool = Field(
        False,
        exclude_if=not_,  # left out where it is false, so that runs from before keep their digests
        description="worlds and locales take turns, so that each has the same number of episodes or pairs",
    )
    steps: int = Field(450, ge=1, le=10_000_000, description="optimiser steps of pre-training")
    batch_tokens: int = Field(2048, ge=256, le=100_000_000, description="approximate tokens per optimiser step")
    lr: float = Field(4e-3, gt=0, le=10, description="peak learning rate of AdamW")
    seed: int = Field(0, ge=0, le=2**32 - 1, description="seed of the corpus, the initial weights and the batches")

    @field_validator("worlds")
    @classmethod
    def _known_worlds(cls, worlds: list[str]) -> list[str]:
        check_names(worlds)
        return worlds

    @field_validator("skins")
    @classmethod
    def _known_locales(cls, skins: list[str]) -> list[str]:
        for locale in skins:
            options_of(locale)
        return skins
