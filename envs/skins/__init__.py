"""Languages, eras and prose: the same worlds in other words.

Worlds are written in contemporary English, token by token (the dialect of organisms). A skin (`envs.skins.skin`)
translates a world's words into another language and era, or into prose for language models, and the agent's words
back. Mechanics, seeds, rewards and labels are the same by construction. `clerk@ar-1850` and `clerk@en-prose` name a
world in a locale. `envs.skins.record` translates recorded episodes back.
"""

from collections.abc import Mapping
from typing import Any

from envs.skins.locales import (
    DEFAULT,
    ERAS,
    LANGUAGES,
    LOCALES,
    PROSE,
    check_takes_locale,
    locale_in,
    named,
    options_of,
    resolve,
    split,
)
from envs.skins.skin import Skin, load, worlds
from envs.skins.table import SkinError

__all__ = [
    "DEFAULT",
    "ERAS",
    "LANGUAGES",
    "LOCALES",
    "PROSE",
    "WORDS",
    "Skin",
    "SkinError",
    "check_takes_locale",
    "load",
    "locale_in",
    "locale_of",
    "named",
    "options_of",
    "resolve",
    "skin_of",
    "split",
]


WORDS = frozenset({"lang", "era", "style"})
"""Options of a world that say in which words it speaks."""


def locale_of(world: str, options: Mapping[str, Any]) -> str | None:
    """The locale of a built-in world's options `lang`, `era`, `style`; None if they name none or an unknown one."""
    if not WORDS & options.keys() or world not in worlds():
        return None
    said = {**options_of(DEFAULT), "style": "dialect", **{key: str(options[key]) for key in WORDS & options.keys()}}
    locale = locale_in(**said)
    return locale if locale in (*LOCALES, *PROSE) else None


def skin_of(name: str) -> Skin | None:
    """The skin in a world's name (`clerk@ar-1850`); None if the name has no locale, or the world no skins."""
    if "@" not in name:
        return None
    try:
        return load(*split(name))
    except ValueError:
        return None
