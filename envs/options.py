"""The options that a world declares: what a config may say, and which cues of an evaluation reach it."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, NamedTuple

from pydantic import BaseModel

from envs.core import TextEnv


class Declared(NamedTuple):
    """The options of a world."""

    names: tuple[str, ...]
    """Their names, in the order of their declaration."""
    open: bool
    """Does it also take options under names that it does not declare?"""

    def of(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Those of `options` that are declared."""
        return {name: value for name, value in options.items() if name in self.names}

    def unknown(self, options: Mapping[str, Any]) -> list[str]:
        """Names in `options` that the world refuses."""
        return [] if self.open else [name for name in options if name not in self.names]


def declared_options(world: type[TextEnv]) -> Declared:
    """The fields of `world.Options`, a pydantic model; without one, the named parameters of its constructor.

    Where a constructor takes `**options`, it hands them on: the parameters of the next class that it inherits from
    count, too. If that one takes none, the world is open: it takes any name, but has declared none of them.
    """
    model = getattr(world, "Options", None)
    if isinstance(model, type) and issubclass(model, BaseModel):
        return Declared(tuple(model.model_fields), model.model_config.get("extra") == "allow")
    names: list[str] = []
    handed_on = False
    for kind in world.__mro__:
        if kind in TextEnv.__mro__:
            break
        if "__init__" in vars(kind):
            parameters = list(inspect.signature(vars(kind)["__init__"]).parameters.values())[1:]
            names += [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
            handed_on = any(p.kind is p.VAR_KEYWORD for p in parameters)
            if not handed_on:
                break
    return Declared(tuple(dict.fromkeys(names)), handed_on)
