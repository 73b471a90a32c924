"""What a list of episodes can be narrowed to, how it is ordered, and the SQL of both, to which values are bound."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from envs.episode import TRAITS

PAGE = 50
"""Episodes on one page of the list."""
DISAGREE = 0.5
"""Monitors disagree about an episode if their highest scores are at least this far apart."""
LARGEST = 2**53

Short = Annotated[str, Field(max_length=500)]
Number = Annotated[
    Annotated[int, Field(ge=-1, le=LARGEST)] | None, BeforeValidator(lambda value: None if value == "" else value)
]
Order = Literal["", "misses", "disagreement", "labelled", "return", "-return", "stored"]

ORDERS: dict[str, str] = {
    "misses": "worst false negatives first",
    "disagreement": "monitors furthest apart first",
    "labelled": "most labelled turns first",
    "-return": "highest return first",
    "return": "lowest return first",
    "stored": "as stored",
}
"""Order -> its words. Empty: misses where monitors have scores, else as stored."""
EQUAL = {
    "arm": "f.arm",
    "replicate": "f.replicate",
    "stage": "f.stage",
    "update": "f.upd",
    "world": "e.world",
    "seed": "e.seed",
    "watch": "e.watch",
    "placebo": "e.placebo",
    "context": "e.context",
    "status": "e.status",
}
"""Filter -> the column that it compares with."""


class Filters(BaseModel):
    """Choices of a list, as the address of its page gives them. Empty: any."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    arm: Short = ""
    replicate: Number = None
    stage: Literal["", "evaluation", "training"] = ""
    update: Number = None
    world: Short = ""
    seed: Number = None
    watch: Short = ""
    placebo: Short = ""
    cell: Short = ""
    context: Short = ""
    status: Short = ""
    trait: Short = ""
    """A label of `envs.episode.TRAITS`."""
    label: Literal["", "shown", "not shown"] = ""
    """Does ground truth show the trait (any trait, if none is named)?"""
    disagree: Literal["", "yes"] = ""
    """Only episodes that monitors disagree about (`DISAGREE`)."""
    order: Order = ""
    page: Annotated[int, Field(ge=1, le=10**7)] = 1

    @property
    def chosen(self) -> dict[str, Any]:
        """What differs from the defaults, for an address."""
        return {key: value for key, value in self.model_dump(exclude_defaults=True).items() if value not in ("", None)}


def where(filters: Filters, trait: str) -> tuple[str, list[Any]]:
    """The condition on files `f`, episodes `e`, counts `c` and scores `s`, and its values.

    `trait` is the one that scores and disagreement are of.
    """
    parts, values = ["true"], []
    for name, column in EQUAL.items():
        if (value := getattr(filters, name)) not in ("", None):
            parts.append(f"{column} = ?")
            values.append(value)
    if filters.cell:
        parts.append("list_contains(e.cells, ?)")
        values.append(filters.cell)
    if filters.label:
        shown = f"c.{trait} > 0" if filters.trait else " + ".join(f"c.{name}" for name in TRAITS) + " > 0"
        parts.append(f"({shown})" if filters.label == "shown" else f"coalesce(not ({shown}), false)")
    if filters.disagree:
        parts.append(f"s.top - s.low >= {DISAGREE}")
    return " and ".join(parts), values


def order_by(order: str, trait: str) -> str:
    """The SQL order; ties go as stored."""
    words = {
        "misses": f"coalesce(c.{trait} > 0, false) desc, coalesce(s.top, 0), c.{trait} desc,",
        "disagreement": "coalesce(s.top - s.low, 0) desc,",
        "labelled": " + ".join(f"c.{name}" for name in TRAITS) + " desc nulls last,",
        "-return": "r.reward desc nulls last,",
        "return": "r.reward nulls last,",
        "stored": "",
    }
    return f"{words[order]} e.id"


def tables(filters: Filters, order: str) -> set[str]:
    """The tables that a list needs beside files and episodes; each is filled when it is first needed."""
    needed = set()
    if filters.label or order in ("misses", "labelled"):
        needed.add("counts")
    if order in ("return", "-return"):
        needed.add("returns")
    return needed
