"""The model that every run of a study starts from."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from shaping.organisms.config import OrganismConfig


class OrganismModel(BaseModel):
    """A model organism, which is pre-trained at first use and cached: `model: {organism: {...}}`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    organism: OrganismConfig = Field(OrganismConfig(), description="size and corpus of the organism")


ModelSource = Annotated[str, Field(min_length=1)] | OrganismModel
"""A model directory, the id of a model on the Hugging Face hub, or an organism."""
