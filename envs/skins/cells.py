"""The cells of the grid of languages and eras, and world names that carry one: `clerk@ar-1850`."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Mapping
from typing import Any

LANGUAGES = ("en", "ar")
ERAS = ("1850", "1950", "2025", "2090")
CELLS: tuple[str, ...] = tuple(f"{lang}-{era}" for lang in LANGUAGES for era in ERAS)
DEFAULT = "en-2025"
"""The cell in which worlds are written; its words are nobody's translation."""


def options_of(cell: str) -> dict[str, str]:
    """The world options `lang` and `era` of a cell. Raises ValueError for a cell that there is not."""
    if cell not in CELLS:
        near = difflib.get_close_matches(cell, CELLS, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ValueError(f"unknown skin {cell!r}; {hint}Skins: {', '.join(CELLS)}")
    lang, _, era = cell.partition("-")
    return {"lang": lang, "era": era}


def named(world: str, cell: str) -> str:
    """The name of a world in a cell: that of the world alone in the default cell."""
    return world if cell == DEFAULT else f"{world}@{cell}"


def split(name: str) -> tuple[str, str]:
    """(world, cell) of a world's name. Raises ValueError for a cell that there is not."""
    world, at, cell = name.partition("@")
    if not at:
        return world, DEFAULT
    try:
        options_of(cell)
    except ValueError as error:
        every = " ('@all' stands in train.worlds and eval.worlds of a study only)" if cell == "all" else ""
        raise ValueError(f"world {name!r}: {error}{every}") from None
    return world, cell


def resolve(name: str, options: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """A world's name without its cell, and the options with it. Raises ValueError if they contradict each other."""
    if "@" not in name:
        return name, dict(options)
    world, cell = split(name)
    wanted = options_of(cell)
    for key, value in wanted.items():
        if key in options and str(options[key]) != value:
            raise ValueError(
                f"world {name!r}: its name says {key} {value}, its options say {options[key]!r}; leave out one of them"
            )
    return world, {**options, **wanted}


def check_takes_cell(name: str, world: type) -> None:
    """Raises ValueError if a name carries a cell and the class takes no options `lang` and `era`."""
    if "@" not in name:
        return
    try:
        inspect.signature(world).bind_partial(**options_of(split(name)[1]))
    except TypeError:
        raise ValueError(
            f"world {name!r}: {world.__name__} takes no options 'lang' and 'era', so it has no skins; leave out the "
            f"'@' and what follows"
        ) from None
