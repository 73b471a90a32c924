"""Languages and eras: the same worlds in other words.

Worlds are written in contemporary English. A skin (`envs.skins.skin`) puts what a world says into the words of another
language and era, and what the agent says back, so that mechanics, seeds, rewards and labels are the same by
construction. `clerk@ar-1850` names a world in a cell; `envs.skins.record` reads what was recorded there.
"""

from envs.skins.cells import CELLS, DEFAULT, ERAS, LANGUAGES, named, options_of, resolve, split
from envs.skins.skin import Skin, load
from envs.skins.table import SkinError

__all__ = [
    "CELLS",
    "DEFAULT",
    "ERAS",
    "LANGUAGES",
    "Skin",
    "SkinError",
    "load",
    "named",
    "options_of",
    "resolve",
    "skin_of",
    "split",
]


def skin_of(name: str) -> Skin | None:
    """The skin that a world's name carries (`clerk@ar-1850`); None without one, or if it is none of ours."""
    if "@" not in name:
        return None
    try:
        return load(*split(name))
    except ValueError:
        return None
