"""The locales of the grid of languages and eras, prose, and world names that carry one: `clerk@ar-1850`."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Mapping
from typing import Any

LANGUAGES = ("en", "ar")
ERAS = ("1850", "1950", "2025", "2090")
LOCALES: tuple[str, ...] = tuple(f"{lang}-{era}" for lang in LANGUAGES for era in ERAS)
DEFAULT = "en-2025"
"""The locale in which worlds are written; its words are nobody's translation."""
PROSE: tuple[str, ...] = tuple(f"{lang}-prose" for lang in LANGUAGES)
"""Contemporary prose for language models. It is no part of the grid."""
ALIASES = {"prose": PROSE[0], "dialect": DEFAULT}
"""Short names of locales."""


def options_of(locale: str) -> dict[str, str]:
    """The world options of a locale: `lang` and `era`, or `lang` and `style`. Raises ValueError for an unknown one."""
    every = (*LOCALES, *PROSE)
    if locale not in every:
        near = difflib.get_close_matches(locale, every, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ValueError(f"unknown skin {locale!r}; {hint}Skins: {', '.join(every)}")
    lang, _, era = locale.partition("-")
    return {"lang": lang, "style": era} if locale in PROSE else {"lang": lang, "era": era}


def locale_in(lang: str, era: str, style: str) -> str:
    """The locale of a world's options."""
    return f"{lang}-{style if style == 'prose' else era}"


def named(world: str, locale: str) -> str:
    """The name of a world in a locale: that of the world alone in the default locale."""
    return world if locale == DEFAULT else f"{world}@{locale}"


def split(name: str) -> tuple[str, str]:
    """(world, locale) of a world's name. Raises ValueError for a locale that there is not."""
    world, at, locale = name.partition("@")
    if not at:
        return world, DEFAULT
    locale = ALIASES.get(locale, locale)
    try:
        options_of(locale)
    except ValueError as error:
        every = " ('@all' stands in train.worlds and eval.worlds of a study only)" if locale == "all" else ""
        raise ValueError(f"world {name!r}: {error}{every}") from None
    return world, locale


def resolve(name: str, options: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """A world's name without its locale, and the options with it. Raises ValueError if they contradict each other."""
    if "@" not in name:
        return name, dict(options)
    world, locale = split(name)
    wanted = options_of(locale)
    for key, value in wanted.items():
        if key in options and str(options[key]) != value:
            raise ValueError(
                f"world {name!r}: its name says {key} {value}, its options say {options[key]!r}; leave out one of them"
            )
    return world, {**options, **wanted}


def check_takes_locale(name: str, world: type) -> None:
    """Raise ValueError if a name carries a locale and the class takes no options `lang` and `era`."""
    if "@" not in name:
        return
    wanted = options_of(split(name)[1])
    try:
        inspect.signature(world).bind_partial(**wanted)
    except TypeError:
        raise ValueError(
            f"world {name!r}: {world.__name__} takes no options {' and '.join(map(repr, wanted))}, so it has no skins; "
            f"leave out the '@' and what follows"
        ) from None
