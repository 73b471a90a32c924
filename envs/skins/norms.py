"""Norms that vary with time and place, with a source for each claim. They are data for probes, not for training.

An item is a statement that something may be done. Most were lawful in some times and places and not in others. Items
with the same standing wherever something is recorded are the control (`Item.varies`). `Item.at(lang, era)` gives the
record for a locale, or None where there is none, as always for 2090.
"""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from envs.skins.locales import ERAS, LANGUAGES

FILES = tuple(sorted(Path(__file__).parent.glob("norms_*.yaml")))
_YEAR = re.compile(r"\b1[0-9]{3}\b|\b20[0-9]{2}\b")


class Norm(BaseModel):
    """The standing of a statement in one area and era."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    where: str = Field(min_length=1, description="the place")
    status: Literal["lawful", "restricted", "unlawful", "divided"] = Field(
        description="restricted: lawful within limits; divided: it depended on the place"
    )
    says: str = Field(min_length=1, description="the rule, in a sentence")
    sources: tuple[str, ...] = Field(min_length=1, description="citations with their year")

    @field_validator("sources")
    @classmethod
    def _can_be_found(cls, sources: tuple[str, ...]) -> tuple[str, ...]:
        if not any(_YEAR.search(source) for source in sources):
            raise ValueError(f"a source is cited with its year, not as {sources}")
        return sources


class Item(BaseModel):
    """A statement, and its standing by era and language area."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str = Field(pattern=r"^[a-z][a-z_]*$", description="a short name")
    domain: Literal["labour", "safety", "property", "politics", "liberty", "commerce", "violence", "privacy"] = Field(
        description="the part of life that it is about"
    )
    statement: str = Field(min_length=1, description="a sentence that says that something may be done")
    norms: dict[Literal["1850", "1950", "2025"], dict[Literal["en", "ar"], Norm]] = Field(
        description="era -> language area -> standing"
    )

    @field_validator("norms", mode="before")
    @classmethod
    def _eras(cls, value: object) -> object:
        return {str(era): areas for era, areas in value.items()} if isinstance(value, dict) else value

    @model_validator(mode="after")
    def _comparable(self) -> Item:
        if sum("en" in areas for areas in self.norms.values()) < 2:
            raise ValueError(f"{self.id}: at least two eras need an entry `en`, else nothing can be compared")
        return self

    def at(self, lang: str, era: str) -> Norm | None:
        """The standing in a locale; None without a record. Raises ValueError for an unknown locale."""
        if lang not in LANGUAGES or era not in ERAS:
            raise ValueError(f"no locale {lang}-{era}; languages: {', '.join(LANGUAGES)}, eras: {', '.join(ERAS)}")
        for year, areas in self.norms.items():
            for area, norm in areas.items():
                if (area, year) == (lang, era):
                    return norm
        return None

    @property
    def varies(self) -> bool:
        """Do any two records differ in standing?"""
        return len({norm.status for areas in self.norms.values() for norm in areas.values()}) > 1


@lru_cache(maxsize=4)
def load_norms(files: tuple[Path, ...] = FILES) -> tuple[Item, ...]:
    """All items. Raises ValueError (pydantic's, with the place) if a file is not sound."""
    rows = [row for path in files for row in yaml.safe_load(path.read_text(encoding="utf-8"))]
    items = tuple(Item.model_validate(row) for row in rows)
    names = [item.id for item in items]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"norm items: ids occur twice: {', '.join(twice)}")
    return items
