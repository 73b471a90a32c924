"""Text worlds with sealed ground truth.

`make_world("steward", {"oversight": 0.2})` builds a built-in world or a plug-in given as `"package.module:Class"`;
`gymnasium.make("shaping/Steward-v0", oversight=0.2)` does the same for the built-in ones. A name may carry a skin
(`envs.skins`): `make_world("steward@ar-1850")`.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any, Final

import gymnasium

from envs.core import TextEnv
from envs.discovery import Discovered, by_name, subclasses
from envs.modules.own_modules import import_class
from envs.skins import check_takes_locale, resolve, split
from envs.worlds.base import World


def _name_of(world: type[World]) -> str:
    if "name" not in vars(world):
        raise ValueError(f"{world.__module__}.{world.__name__} has no `name`; studies call a world by it")
    return world.name


def _worlds() -> dict[str, type[World]]:
    return by_name(subclasses("envs.worlds", World).values(), _name_of)  # type: ignore[type-abstract]


WORLDS: Final = Discovered(_worlds)
"""Name -> built-in world: every concrete `World` that a module of `envs.worlds` defines."""
SURVEYS: Final = Discovered(lambda: by_name(subclasses("envs.surveys", TextEnv).values(), lambda survey: survey.name))
"""Name -> built-in survey: a world in which nothing is done, so that it has no frame of overseer, audits and cues."""


def make_world(name: str, options: Mapping[str, Any] | None = None) -> TextEnv:
    """Build a world by its name, or a plug-in by `"package.module:Class"`. Raises ValueError with the remedy."""
    world, given = resolve(name, options or {})
    found = world_class(world)
    check_takes_locale(name, found)
    return found(**given)


def world_class(name: str) -> type[TextEnv]:
    """The class behind a world's name, with or without a locale."""
    name, _ = split(name)
    for known in (WORLDS, SURVEYS):
        if name in known:
            return known[name]
    if ":" not in name:
        near = difflib.get_close_matches(name, WORLDS, n=1, cutoff=0.0)[0]
        raise ValueError(
            f"unknown world {name!r}; did you mean {near!r}? Built-in worlds: {', '.join(WORLDS)}; "
            "name a plug-in as 'package.module:Class'"
        )
    try:
        found = import_class(name)
    except ImportError as error:
        raise ValueError(f"world {name!r} cannot be imported: {error}; check the path and PYTHONPATH") from error
    if not (isinstance(found, type) and issubclass(found, TextEnv)):
        raise ValueError(f"world {name!r} is not a subclass of envs.core.TextEnv")
    return found


def is_built_in(kind: type) -> bool:
    """Does a module of `envs.worlds` or `envs.surveys` define it? A class of your own made of one is not built in."""
    return kind.__module__.startswith(("envs.worlds.", "envs.surveys."))


for _world in WORLDS.values():  # last: a world's module may import what stands above
    gymnasium.register(f"shaping/{_world.__name__}-v0", entry_point=f"{_world.__module__}:{_world.__name__}")
