"""Settings of the policy a study starts from."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class OrganismConfig(BaseModel):
    """A model organism: a small Llama pre-trained on transcripts of scripted personas.

    `model` names a Hugging Face directory to start from instead; the other fields are then unused.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str | None = Field(None, description="directory of a causal language model to use instead of an organism")
    hidden: int = Field(96, ge=16, multiple_of=8)
    layers: int = Field(3, ge=1)
    heads: int = Field(4, ge=1)
    vocabulary: int = Field(768, ge=300, description="size of the byte-level BPE")
    context: int = Field(2048, ge=64, description="longest episode in tokens")
    episodes: int = Field(3000, ge=10, description="scripted episodes in the corpus")
    steps: int = Field(400, ge=1, description="optimiser steps of pre-training")
    batch_tokens: int = Field(16384, ge=256, description="tokens per optimiser step")
    lr: float = Field(3e-3, gt=0)
    seed: int = 0
