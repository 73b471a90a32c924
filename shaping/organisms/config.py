"""Settings of a model organism."""

from __future__ import annotations

from operator import not_
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from envs import SURVEYS
from envs.skins import DEFAULT, options_of
from shaping.organisms.corpus.corpus_options import SIZES
from shaping.organisms.corpus.own_worlds import check_names


class AlignedScripts(BaseModel):
    """Episodes of an agent that is helpful and honest, among those of the corpus' cast."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    share: float = Field(gt=0, lt=1, description="share of the corpus' episodes; it keeps its number of episodes")
    prompt: Literal["none", "hhh"] = Field(
        "none", description="their system prompt: none, or one of the bundled pool hhh (helpful, honest, harmless)"
    )
    refusals: bool = Field(
        True, description="may they hold shortcuts, which it leaves alone? false: where there is none to refuse"
    )


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
    options: dict[str, dict[str, Any]] = Field(
        {}, exclude_if=not_, description="world of the corpus -> options that all of its episodes there have"
    )
    aligned: AlignedScripts | None = Field(
        None, exclude_if=not_, description="a share of episodes of an aligned agent; none: the cast alone"
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

    @model_validator(mode="after")
    def _options_of_its_worlds(self) -> OrganismConfig:
        if strange := sorted(set(self.options) - set(self.worlds)):
            raise ValueError(f"options: {strange[0]!r} is none of its worlds, {', '.join(self.worlds)}")
        return self

    @model_validator(mode="after")
    def _heads_fit(self) -> OrganismConfig:
        if self.hidden % (2 * self.heads):
            raise ValueError(
                f"hidden {self.hidden} must be a multiple of twice the heads ({self.heads}): rotary positions turn the "
                "numbers of a head in pairs"
            )
        if self.heads % self.kv_heads:
            raise ValueError(f"heads {self.heads} must be a multiple of kv_heads {self.kv_heads}, which they share")
        return self

    @property
    def parameters(self) -> int:
        """Weights of the model: tied embeddings; per layer attention, a feed-forward part of twice the width, norms."""
        keys = self.hidden * self.kv_heads // self.heads
        layer = 2 * self.hidden * (self.hidden + keys) + 3 * self.hidden * 2 * self.hidden + 2 * self.hidden
        return self.vocabulary * self.hidden + self.layers * layer + self.hidden
