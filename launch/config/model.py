"""The model that the runs of a study start from: the same for all, or one of several organisms in turn."""

from __future__ import annotations

from os.path import isfile  # False, where Path.is_file raises for what can be no path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

from launch.config.paths import expanded
from shaping.organisms.card import CARD
from shaping.organisms.config import OrganismConfig
from shaping.organisms.shipped import COUNT

MAX_SEED = 2**32 - 1


class OrganismSeries(OrganismConfig):
    """Organisms that differ in their seeds alone."""

    seeds: int = Field(
        1, ge=1, le=1000, description="number of organisms; replicate r starts from that of seed + (r mod seeds)"
    )

    @model_validator(mode="after")
    def _seeds_exist(self) -> OrganismSeries:
        if self.seed + self.seeds - 1 > MAX_SEED:
            raise ValueError(f"seed {self.seed:,} and {self.seeds:,} seeds lead beyond {MAX_SEED:,}, the largest seed")
        return self

    def member(self, replicate: int) -> OrganismConfig:
        """The organism of a replicate."""
        settings = self.model_dump(exclude={"seeds"})
        return OrganismConfig(**{**settings, "seed": self.seed + replicate % self.seeds})


class Organisms(BaseModel):
    """Model organisms: those that come with the package, or some that are pre-trained at first use and cached."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    organism: Annotated[
        Annotated[Literal["shipped"], Tag("shipped")] | Annotated[OrganismSeries, Tag("settings")],
        Discriminator(lambda value: "shipped" if isinstance(value, str) else "settings"),
    ] = Field(OrganismSeries(), description="`shipped`, or size, corpus and number of the organisms")


class OrganismModel(BaseModel):
    """One organism that is pre-trained at first use and cached."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    organism: OrganismConfig


class ShippedModel(BaseModel):
    """One of the organisms that come with the package."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    shipped: int = Field(ge=0)


_Name = Annotated[str, Field(min_length=1)]
StudyModel = Annotated[
    Annotated[_Name, Tag("name")] | Annotated[Organisms, Tag("organisms")],
    Discriminator(lambda value: "name" if isinstance(value, str) else "organisms"),
]
"""What a study says: a model directory, the id of a model on the Hugging Face hub, or organisms."""
ModelSource = _Name | OrganismModel | ShippedModel
"""What a run starts from."""


def start_of(model: str | Organisms, replicate: int) -> ModelSource:
    """The model of a replicate, whose number is the study's seed: it stays the same in a study of more seeds."""
    if isinstance(model, str):
        return model
    if isinstance(model.organism, OrganismSeries):
        return OrganismModel(organism=model.organism.member(replicate))
    return ShippedModel(shipped=replicate % COUNT)


def subject_of(model: ModelSource) -> str:
    """How results and reports name it: `organism-<seed or number>`, or the last part of the model's name."""
    if isinstance(model, OrganismModel):
        return f"organism-{model.organism.seed}"
    if isinstance(model, ShippedModel):
        return f"organism-{model.shipped}"
    return model.rstrip("/").rpartition("/")[2] or model


def speaks_dialect(model: object) -> bool:
    """Does a study's model read the worlds' dialect? Organisms do, those in a directory by their chat template."""
    if not isinstance(model, str):
        return True
    directory = expanded(model)
    if isfile(directory / CARD):
        return True
    template = directory / "chat_template.jinja"
    if not isfile(template):
        return False
    from shaping.organisms.tokenizer import TEMPLATE

    return template.read_text(encoding="utf-8", errors="replace").strip() == TEMPLATE


def reads_prose(model: ModelSource) -> bool:
    """Does a run's model read natural prose?"""
    return not speaks_dialect(model)


def idle_organisms(model: str | Organisms, replicates: list[int]) -> str:
    """That some organisms of a study are never used, in words; empty if all are."""
    if isinstance(model, str) or not isinstance(model.organism, OrganismSeries):
        return ""
    used, asked = len({seed % model.organism.seeds for seed in replicates}), model.organism.seeds
    if used == asked:
        return ""
    return (
        f"model.organism.seeds asks for {asked} organisms, of which the seeds of this study use {used}: replicate r "
        f"starts from number r mod {asked}; give as many seeds, or fewer organisms"
    )
