"""A method that is almost called like a hook: the loop would never call it, and the plug-in would do nothing."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Mapping
from types import FunctionType

CUTOFF = 0.76
"""Similarity (`difflib`) from which on a name counts as a misspelt one. One other letter of four (0.75) is no slip."""
_FOREIGN = {*sys.stdlib_module_names, "pydantic"}
"""Packages whose methods have names for reasons of their own."""


def hooks_of(*bases: type) -> frozenset[str]:
    """The public methods that `bases` and the classes they inherit from define, but for pydantic's own."""
    return frozenset(name for base in bases for kind in base.__mro__ for name in _methods(kind))


def misspelt_hook(kind: type, *bases: type, renamed: Mapping[str, str] | None = None) -> str:
    """What is wrong with the names of the methods that `kind` adds to `bases`; empty if nothing is.

    `renamed`: former name -> name of the hook today. Other public methods are allowed unless they resemble a hook.
    """
    hooks = hooks_of(*bases)
    known = {each for base in bases for each in base.__mro__}
    for name in (name for each in kind.__mro__ if each not in known for name in _methods(each)):
        if name in hooks:
            continue
        if renamed and name in renamed:
            return f"{kind.__name__} defines {name}(), which is called {renamed[name]}() today: rename it"
        if close := difflib.get_close_matches(name, hooks, n=1, cutoff=CUTOFF):
            return (
                f"{kind.__name__} defines {name}(), which is no hook and would never be called; did you mean "
                f"{close[0]}()? If it is a method of your own, call it something else, or _{name}()"
            )
    return ""


def _methods(kind: type) -> list[str]:
    functions = {
        name: value.__func__ if isinstance(value, (classmethod, staticmethod)) else value
        for name, value in vars(kind).items()
        if not name.startswith("_")
    }
    return [
        name
        for name, function in functions.items()
        if isinstance(function, FunctionType) and (function.__module__ or "").partition(".")[0] not in _FOREIGN
    ]
