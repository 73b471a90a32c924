"""`clerk@all` in a study: the eight languages and eras of a world, each with options of its own."""

from __future__ import annotations

import re
from typing import Any

from envs.skins import DEFAULT, LOCALES, locale_of, named, split

ALL = "@all"
_EVERY = re.compile(rf"{ALL}(?=\.|$)")
_NEEDLESS = re.compile(rf"@{DEFAULT}(?=\.|$)")


def expanded(worlds: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """`worlds` with `name@all` replaced by all locales of that world; an entry of a locale adds to those options.

    `{clerk@all: {size: 4, oversight: 0.9}, clerk@ar-1850: {oversight: 0}}`: eight locales of size 4, seven of them with
    oversight 0.9. A locale that the options `lang` and `era` say is put into the name, as episodes carry it there, too.
    Raises ValueError for a locale that there is not, and for one that is named twice.
    """
    found: dict[str, dict[str, Any]] = {}
    for name, options in worlds.items():
        if name.endswith(ALL):
            found |= {named(name.removesuffix(ALL), locale): dict(options) for locale in LOCALES}
    own: set[str] = set()
    for name, options in worlds.items():
        if name.endswith(ALL):
            continue
        locale, rest = _in_name(name, options)
        if locale in own:
            raise ValueError(f"{name!r}: this locale is named twice; {locale!r} is the same one")
        own.add(locale)
        found[locale] = {**found.get(locale, {}), **rest}
    return found


def _in_name(name: str, options: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Move `lang` and `era` into the world's name; unchanged if they name no known locale."""
    world, locale = split(name)
    if "@" not in name and (said := locale_of(world, options)):
        return named(world, said), {key: value for key, value in options.items() if key not in ("lang", "era")}
    return named(world, locale), options


def each(key: str) -> list[str]:
    """A dotted key under a world as configurations hold it, one for every locale if it says `@all`.

    `train.worlds.clerk@all.oversight` are eight keys, `train.worlds.clerk@en-2025.oversight` is that of `clerk`.
    """
    key = _NEEDLESS.sub("", key)  # as `expanded` writes it
    if not _EVERY.search(key):
        return [key]
    return [_EVERY.sub(named("", locale), key) for locale in LOCALES]
