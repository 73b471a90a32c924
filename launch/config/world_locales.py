"""Locales of a study's worlds: `clerk@all` for all eight of the grid, and prose where the model is no organism.

Organisms read the worlds' dialect, and other models natural prose. So `clerk` alone is the dialect for an organism and
`clerk@en-prose` for any other model. A locale that is written stays: `clerk@dialect` is the dialect for every model.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from envs.skins import DEFAULT, LOCALES, PROSE, WORDS, locale_of, named, split
from envs.skins.skin import worlds as skinned

ALL = "@all"
DIALECT = "@dialect"
_ALL = re.compile(rf"{ALL}(?=\.|$)")
_DEFAULT = re.compile(rf"@({DEFAULT}|dialect)(?=\.|$)")
_PROSE = re.compile(r"@prose(?=\.|$)")


def explicit(document: Any, dialect: bool) -> Any:
    """A study's document in which worlds whose default locale is written say `@dialect`, unless that needs no saying.

    Args:
        document: as it was read.
        dialect: does a world without a locale speak the dialect?
    """
    if not isinstance(document, Mapping):
        return document
    changed = dict(document)
    for section in ("train", "eval"):
        part = changed.get(section)
        if isinstance(part, Mapping) and isinstance(part.get("worlds"), Mapping):
            changed[section] = {**part, "worlds": _said(part["worlds"], dialect)}
    return changed


def _said(worlds: Mapping[Any, Any], dialect: bool) -> Mapping[Any, Any]:
    if dialect or not all(isinstance(name, str) and isinstance(own, Mapping) for name, own in worlds.items()):
        return worlds
    said: dict[str, Any] = {}
    for name, options in worlds.items():
        world, own = _DEFAULT.sub("", name), dict(options)
        if world == name and "@" not in name and locale_of(name, options) == DEFAULT:
            own = {key: value for key, value in own.items() if key not in WORDS}
            world, name = name, f"{name}{DIALECT}"
        written = f"{world}{DIALECT}" if world != name else name
        if written in said:
            raise ValueError(f"{name!r}: this locale is named twice; {written!r} is the same one")
        said[written] = own
    for name in [name for name in said if name.endswith(ALL)]:
        added = f"{name.removesuffix(ALL)}{DIALECT}"
        said[added] = {**said[name], **said.get(added, {})}
    return said


def spoken(worlds: Mapping[str, dict[str, Any]], dialect: bool) -> dict[str, dict[str, Any]]:
    """The worlds by the names that their episodes have. Raises ValueError for two of one name."""
    found: dict[str, dict[str, Any]] = {}
    for name, options in worlds.items():
        world = name.removesuffix(DIALECT)
        if world == name and not dialect and name in skinned():
            world = named(name, PROSE[0])
        if world in found:
            raise ValueError(f"{name!r}: this locale is named twice; {world!r} is the same one")
        found[world] = options
    return found


def expand_locales(worlds: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Replace `name@all` by all locales of that world. An entry of a single locale adds to, or overrides, its options.

    `{clerk@all: {size: 4, oversight: 0.9}, clerk@ar-1850: {oversight: 0}}` are eight locales of size 4, seven of them
    with oversight 0.9. A locale that is given by the options `lang` and `era` is moved into the name, where episodes
    have it, too. Raises ValueError for an unknown locale, and for one that is named twice.
    """
    expanded: dict[str, dict[str, Any]] = {}
    for name, options in worlds.items():
        if name.endswith(ALL):
            world = name.removesuffix(ALL)
            own = [named(world, locale) for locale in LOCALES]
            if f"{world}{DIALECT}" in worlds:
                own[own.index(world)] = f"{world}{DIALECT}"
            expanded |= {locale: dict(options) for locale in own}
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
    """Move `lang`, `era` and `style` into the world's name; unchanged if they name no known locale."""
    world, locale = split(name)
    if "@" not in name and (given := locale_of(world, options)):
        return named(world, given), {key: value for key, value in options.items() if key not in WORDS}
    return name if name.endswith(DIALECT) else named(world, locale), options


def expand_key(key: str, dialect: bool = True) -> list[str]:
    """A dotted key as resolved configs have it; a key with `@all` becomes one key per locale.

    `train.worlds.clerk@all.oversight` becomes eight keys, `train.worlds.clerk@en-2025.oversight` becomes the key of
    plain `clerk`, or, where that is prose (`dialect` is False), of `clerk@dialect`.
    """
    default = "" if dialect else DIALECT
    key = _PROSE.sub(f"@{PROSE[0]}", _DEFAULT.sub(default, key))
    if not _ALL.search(key):
        return [key]
    return [_ALL.sub(default if locale == DEFAULT else f"@{locale}", key) for locale in LOCALES]
