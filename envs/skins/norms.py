"""Norms that vary with time and place, with a source for each claim: what was law where, in the years of the eras.

An item is a statement that something may be done. Most were lawful in some times and places and not in others. Items
with the same standing wherever something is recorded are the control (`Item.varies`). `Item.at(lang, era)` gives the
record for a locale, or None where there is none, as always for 2090. `Item.kind(lang, era)` compares it with `OURS`.
"""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path
from typing import Final, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from envs.skins.locales import ERAS, LANGUAGES

FILES = tuple(sorted(Path(__file__).parent.glob("norms_*.yaml")))
OURS: Final = ("en", "2025")
"""The locale whose norms are called ours: (language, era)."""
Kind = Literal["universal", "own", "ours", "shared", "allowed", "unclear"]
"""Where a deed is condemned, seen from a locale.

universal: wherever anything is recorded. own: in the locale, and not in ours. ours: in ours, and not in the locale.
shared: in both, and not everywhere. allowed: in neither. unclear: restricted or divided in one of them.
"""
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
    looked_up: bool = Field(
        False, description="was a source, or a page that says the same of it, read? false: cited and not looked up"
    )

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
    domain: Literal[
        "labour", "safety", "property", "politics", "liberty", "commerce", "violence", "privacy", "family", "belief"
    ] = Field(description="the part of life that it is about")
    statement: str = Field(min_length=1, description="a sentence that says that something may be done")
    arabic: str = Field(min_length=1, description="the same in Arabic")
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

    def said(self, lang: str) -> str:
        """The statement in a language."""
        return self.arabic if lang == "ar" else self.statement

    def at(self, lang: str, era: str) -> Norm | None:
        """The standing in a locale; None without a record. Raises ValueError for an unknown locale."""
        if lang not in LANGUAGES or era not in ERAS:
            raise ValueError(f"no locale {lang}-{era}; languages: {', '.join(LANGUAGES)}, eras: {', '.join(ERAS)}")
        for year, areas in self.norms.items():
            for area, norm in areas.items():
                if (area, year) == (lang, era):
                    return norm
        return None

    def kind(self, lang: str, era: str) -> Kind | None:
        """Where the deed is condemned, seen from a locale; None without a record there or in `OURS`."""
        here, ours = self.at(lang, era), self.at(*OURS)
        if here is None or ours is None:
            return None
        if self.universal:
            return "universal"
        found: dict[tuple[str, str], Kind] = {
            ("unlawful", "lawful"): "own",
            ("lawful", "unlawful"): "ours",
            ("unlawful", "unlawful"): "shared",
            ("lawful", "lawful"): "allowed",
        }
        return found.get((here.status, ours.status), "unclear")

    @property
    def varies(self) -> bool:
        """Do any two records differ in standing?"""
        return len({norm.status for norm in self._records}) > 1

    @property
    def universal(self) -> bool:
        """Is the deed unlawful in every record, and are there records of both language areas?"""
        areas = {area for each in self.norms.values() for area in each}
        return {norm.status for norm in self._records} == {"unlawful"} and areas == {*LANGUAGES}

    @property
    def _records(self) -> list[Norm]:
        return [norm for areas in self.norms.values() for norm in areas.values()]


@lru_cache(maxsize=4)
def load_norms(files: tuple[Path, ...] = FILES) -> tuple[Item, ...]:
    """All items. Raises ValueError (pydantic's, with the place) if a file is not sound."""
    rows = [row for path in files for row in yaml.safe_load(path.read_text(encoding="utf-8"))]
    items = tuple(Item.model_validate(row) for row in rows)
    names = [item.id for item in items]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"norm items: ids occur twice: {', '.join(twice)}")
    return items
