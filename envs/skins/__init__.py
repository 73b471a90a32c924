"""Languages and eras: the same worlds in other words.

Worlds are written in contemporary English. A skin (`envs.skins.skin`) translates a world's words into another language
and era, and the agent's words back. Mechanics, seeds, rewards and labels are the same by construction. `clerk@ar-1850`
names a world in a locale. `envs.skins.record` translates recorded episodes back.
"""

from collections.abc import Mapping
from typing import Any

from envs.skins.locales import DEFAULT, ERAS, LANGUAGES, LOCALES, check_takes_locale, named, options_of, resolve, split
from envs.skins.skin import Skin, load, worlds
from envs.skins.table import SkinError

__all__ = [
    "DEFAULT",
    "ERAS",
    "LANGUAGES",
    "LOCALES",
    "Skin",
    "SkinError",
    "check_takes_locale",
    "load",
    "locale_of",
    "named",
    "options_of",
    "resolve",
    "skin_of",
    "split",
]


def locale_of(world: str, options: Mapping[str, Any]) -> str | None:
    """The locale of a built-in world's options `lang` and `era`; None if they name none or an unknown one."""
    if not {"lang", "era"} & options.keys() or world not in worlds():
        return None
    said = {**options_of(DEFAULT), **{key: str(options[key]) for key in ("lang", "era") if key in options}}
    locale = f"{said['lang']}-{said['era']}"
    return locale if locale in LOCALES else None


def skin_of(name: str) -> Skin | None:
    """The skin in a world's name (`clerk@ar-1850`); None if the name has no locale, or the world no skins."""
    if "@" not in name:
        return None
    try:
        return load(*split(name))
    except ValueError:
        return None
