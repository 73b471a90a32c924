"""`clerk@all` in a study: all eight locales (language and era) of a world, each with its own options."""

from __future__ import annotations

import re
from typing import Any

from envs.skins import DEFAULT, LOCALES, locale_of, named, split

ALL = "@all"
_ALL = re.compile(rf"{ALL}(?=\.|$)")
_DEFAULT = re.compile(rf"@{DEFAULT}(?=\.|$)")


def expand_locales(worlds: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Replace `name@all` by all locales of that world. An entry of a single locale adds to, or overrides, its options.

    `{clerk@all: {size: 4, oversight: 0.9}, clerk@ar-1850: {oversight: 0}}` are eight locales of size 4, seven of them
    with oversight 0.9. A locale that is given by the options `lang` and `era` is moved into the name, where episodes
    have it, too. Raises ValueError for an unknown locale, and for one that is named twice.
    """
    expanded: dict[str, dict[str, Any]] = {}
    for name, options in worlds.items():
        if name.endswith(ALL):
            expanded |= {named(name.removesuffix(ALL), locale): dict(options) for locale in LOCALES}
    single: set[str] = set()
    for name, options in worlds.items():
        if name.endswith(ALL):
            continue
        locale, rest = _in_name(name, options)
        if locale in single:
            raise ValueError(f"{name!r}: this locale is named twice; {locale!r} is the same one")
        single.add(locale)
        expanded[locale] = {**expanded.get(locale, {}), **rest}
    return expanded


def _in_name(name: str, options: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Move `lang` and `era` into the world's name; unchanged if they name no known locale."""
    world, locale = split(name)
    if "@" not in name and (given := locale_of(world, options)):
        return named(world, given), {key: value for key, value in options.items() if key not in ("lang", "era")}
    return named(world, locale), options


def expand_key(key: str) -> list[str]:
    """A dotted key as resolved configs have it; a key with `@all` becomes one key per locale.

    `train.worlds.clerk@all.oversight` becomes eight keys, `train.worlds.clerk@en-2025.oversight` becomes the key of
    plain `clerk`.
    """
    key = _DEFAULT.sub("", key)  # `expand_locales` leaves the default locale out of names, too
    if not _ALL.search(key):
        return [key]
    return [_ALL.sub(named("", locale), key) for locale in LOCALES]
