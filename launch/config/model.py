"""The model that the runs of a study start from: the same for all, or one of several organisms in turn."""

from __future__ import annotations

import re
from functools import lru_cache
from os.path import isfile  # False, where Path.is_file raises for what can be no path
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

from launch.config.reading.paths import expanded
from shaping.organisms.card import CARD
from shaping.organisms.config import OrganismConfig
from shaping.organisms.shipped import COUNT

MAX_SEED = 2**32 - 1
_ID = r"[A-Za-z0-9][\w.-]*/\w[\w.-]*"
_NAMED = re.compile(rf"({_ID})(?:@([\w.][\w./-]*))?", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}")


class HubModel(BaseModel):
    """A model on the Hugging Face hub."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    hub: str = Field(pattern=rf"^{_ID}$", max_length=200, description="OWNER/NAME")
    revision: Annotated[str, Field(pattern=r"^[\w.][\w./-]*$", max_length=200)] | None = Field(
        None, description="branch, tag or commit; none: the default branch"
    )

    def __str__(self) -> str:
        return f"{self.hub}@{self.revision}" if self.revision else self.hub

    @property
    def is_commit(self) -> bool:
        """True if the revision is a whole commit hash, which always names the same files."""
        return bool(_COMMIT.fullmatch(self.revision or ""))


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


def _kind(value: Any) -> str:
    if isinstance(value, str):
        return "name"
    keys = set(HubModel.model_fields)
    return "hub" if isinstance(value, HubModel) or (isinstance(value, dict) and keys & value.keys()) else "organisms"


Start = str | HubModel | Organisms
StudyModel = Annotated[
    Annotated[_Name, Tag("name")] | Annotated[HubModel, Tag("hub")] | Annotated[Organisms, Tag("organisms")],
    Discriminator(_kind),
]
"""What a study says: a model directory, a model on the Hugging Face hub, or organisms.

A text is a directory, or `OWNER/NAME` or `OWNER/NAME@REVISION` on the hub.
"""
ModelSource = _Name | HubModel | OrganismModel | ShippedModel
"""What a run starts from."""


def hub_model(name: str) -> HubModel | None:
    """The model that `OWNER/NAME` or `OWNER/NAME@REVISION` names; None for text of another form."""
    found = _NAMED.fullmatch(name)
    return HubModel(hub=found[1], revision=found[2]) if found else None


def start_of(model: Start, replicate: int) -> ModelSource:
    """The model of a replicate, whose number is the study's seed: it stays the same in a study of more seeds."""
    if isinstance(model, (str, HubModel)):
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
    hub = hub_model(model) if isinstance(model, str) else model
    if hub is None or not hub.revision:
        name = str(model)
        return name.rstrip("/").rpartition("/")[2] or name
    shown = hub.revision[:8] if hub.is_commit else hub.revision.replace("/", "-")
    return f"{hub.hub.partition('/')[2]}@{shown}"


def speaks_dialect(model: object) -> bool:
    """Does a study's model, as it is written or as it is read, read the worlds' dialect?

    Organisms do, those in a directory by their chat template.
    """
    if not isinstance(model, str):
        return not (isinstance(model, HubModel) or (isinstance(model, dict) and "hub" in model))
    directory = expanded(model)
    if isfile(directory / CARD):
        return True
    template = directory / "chat_template.jinja"
    if not isfile(template):
        return False
    now = template.stat()
    return _is_dialects(template, now.st_mtime_ns, now.st_size)


@lru_cache(16)
def _is_dialects(template: Path, changed: int, size: int) -> bool:
    """Is a file the organisms' template? A study asks many times: it is read once, and again if it has changed."""
    from shaping.organisms.tokenizer import TEMPLATE

    return template.read_text(encoding="utf-8", errors="replace").strip() == TEMPLATE


def idle_organisms(model: Start, replicates: list[int]) -> str:
    """That some organisms of a study are never used, in words; empty if all are."""
    if not isinstance(model, Organisms) or not isinstance(model.organism, OrganismSeries):
        return ""
    used, asked = len({seed % model.organism.seeds for seed in replicates}), model.organism.seeds
    if used == asked:
        return ""
    return (
        f"model.organism.seeds asks for {asked} organisms, of which the seeds of this study use {used}: replicate r "
        f"starts from number r mod {asked}; give as many seeds, or fewer organisms"
    )
