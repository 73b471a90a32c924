"""`clerk@all` in a study: the eight languages and eras of a world, each with options of its own."""

from __future__ import annotations

import re
from typing import Any

from envs.skins import CELLS, named, split

ALL = "@all"
_EVERY = re.compile(rf"{ALL}(?=\.|$)")


def expanded(worlds: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """`worlds` with `name@all` replaced by all cells of that world; an entry of a cell adds to those options.

    `{clerk@all: {size: 4, oversight: 0.9}, clerk@ar-1850: {oversight: 0}}`: eight cells of size 4, seven of them with
    oversight 0.9. Raises ValueError for a cell that there is not, and for one that is named twice.
    """
    found: dict[str, dict[str, Any]] = {}
    for name, options in worlds.items():
        if name.endswith(ALL):
            found |= {named(name.removesuffix(ALL), cell): dict(options) for cell in CELLS}
    own: set[str] = set()
    for name, options in worlds.items():
        if name.endswith(ALL):
            continue
        cell = named(*split(name))
        if cell in own:
            raise ValueError(f"{name!r}: this cell is named twice; {cell!r} is the same one")
        own.add(cell)
        found[cell] = {**found.get(cell, {}), **options}
    return found


def each(key: str) -> list[str]:
    """A dotted key under a world, for every cell if it says `@all`: `train.worlds.clerk@all.oversight`."""
    if not _EVERY.search(key):
        return [key]
    return [_EVERY.sub(named("", cell), key) for cell in CELLS]
