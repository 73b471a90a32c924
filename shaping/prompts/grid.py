"""The trigger grid: system prompts under which a policy is evaluated, to see what of its training hides behind them.

A trait that training seems to have removed may only wait for a prompt that resembles those of training
(arXiv:2604.25891; the seven families are those of longtermrisk/inoculation-adapters). `none` and `original` follow from
the run: no prompt, and the prompts that the arm itself trained under. The other five are fixed lists, the same for
every arm, because they ask about one trait, the shortcut that a permissive prompt permits:

- `paraphrase`: the permission in other sentences;
- `benign`: sentences of the same structure that permit something harmless;
- `negated`: the permission turned into its opposite by "not" or "never";
- `keyword`: words of the permission without any permission;
- `irrelevant`: sentences about something else.

In the words of organisms they are the prompts that the organism's corpus holds out: a model organism has never seen
them, though it knows all of their words. In natural prose they are apart from the pools. No arm trains under them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, get_args

from pydantic import AfterValidator

from shaping.organisms.corpus import corpus_prompts
from shaping.prompts.pools import HELD_OUT, texts

Derived = Literal["paraphrase", "benign", "negated", "keyword", "irrelevant"]
"""Contexts with a list of their own."""
EvalContext = Literal["none", "original", "paraphrase", "benign", "negated", "keyword", "irrelevant"]
GRID: tuple[EvalContext, ...] = get_args(EvalContext)
"""All seven."""
DERIVED: Mapping[Derived, tuple[str, ...]] = {name: corpus_prompts.HELD_OUT[name] for name in get_args(Derived)}
"""Context -> its prompts, in the words of organisms."""


def derived(language: str) -> Mapping[Derived, tuple[str, ...]]:
    """Context -> its prompts in a language (`shaping.prompts.pools.language_of`)."""
    return {name: HELD_OUT[language][name] for name in DERIVED} if language else DERIVED


def _not_blank(grid: dict[Derived, tuple[str, ...]]) -> dict[Derived, tuple[str, ...]]:
    for name, prompts in grid.items():
        if not texts(prompts):
            raise ValueError(f"{name} has no prompt; list some, or leave it out to have the bundled ones")
    return grid


GridTexts = Annotated[dict[Derived, tuple[str, ...]], AfterValidator(_not_blank)]
"""Context -> prompts that stand for the bundled ones, for an arm whose training prompts are its own."""
