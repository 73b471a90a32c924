"""Find the monitors that are trained against: those that an intervention, a reward or a label source can reach."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterable, Iterator, Sequence
from types import CodeType, FrameType, FunctionType, ModuleType
from typing import Any

import numpy as np
from pydantic import BaseModel

from shaping.monitors.base import Monitor

_LEFT_OUT = (type, ModuleType, FrameType, str, bytes, int, float)
_OURS = frozenset({"envs", "rewards", "shaping", "launch"})
_LIBRARIES = frozenset(
    {
        *("numpy", "pandas", "peft", "polars", "pyarrow", "pydantic", "pydantic_core", "ray", "safetensors", "scipy"),
        *("sklearn", "statsmodels", "tokenizers", "torch", "transformers", "trl", "vllm"),
    }
)
"""Packages whose functions are not looked into for global variables; nor is the standard library."""

_WRAPPED = ("__func__", "fget", "func", "wrapped", "__wrapped__")
"""Where methods of classes, properties and decorated functions keep the function."""


def reachable_monitors(roots: Iterable[object]) -> list[Monitor]:
    """Every monitor in the object graph below `roots`, each object once, sorted by name.

    The search follows fields, private attributes, class variables, containers, closures, partials, default arguments
    and other objects, at any depth. In the code of plug-ins that are not built in it follows the global variables that
    methods and functions name. It does not follow classes and modules.
    """
    return _Search(roots).monitors


def spent_names(roots: Iterable[object], monitors: Sequence[Monitor]) -> list[str]:
    """Names of the monitors that are trained against.

    These are the monitors below `roots`; those of `monitors` that differ from one of them only in name and role, since
    a monitor that is trained against under one name is spent under every name; and those of `monitors` whose class the
    code of a plug-in names, since it may make one for itself.
    """
    search = _Search(roots)
    alike = [m for m in monitors if any(_alike(m, other) for other in search.monitors)]
    named = [m for m in monitors if type(m).__name__ in search.names]
    return sorted({m.name for m in [*search.monitors, *alike, *named]})


class _Search:
    """One walk through an object graph."""

    def __init__(self, roots: Iterable[object]) -> None:
        self.names: set[str] = set()
        """Names that the code of plug-ins uses."""
        self._kinds: set[type] = set()
        found: list[Monitor] = []
        seen: dict[int, object] = {}  # keeps the objects alive, so that no two of them share an id
        pending: list[Any] = list(roots)
        while pending:
            thing = pending.pop()
            if id(thing) in seen or issubclass(type(thing), _LEFT_OUT):  # type(): isinstance() can fail on a proxy
                continue
            seen[id(thing)] = thing
            if issubclass(type(thing), Monitor):
                found.append(thing)
            pending += self._referents(thing)
        self.monitors = sorted(found, key=lambda monitor: monitor.name)

    def _referents(self, thing: Any) -> list[Any]:
        if type(thing) is FunctionType:
            own = [thing.__closure__, thing.__defaults__, thing.__kwdefaults__, thing.__dict__]
            return [*own, *self._globals_of(thing)]
        referents = gc.get_referents(thing)
        if issubclass(type(thing), BaseModel):
            referents += [getattr(type(thing), name, None) for name in type(thing).__class_vars__]
        kind = type(thing)
        if kind not in self._kinds and not issubclass(kind, Monitor):  # what a monitor uses is found by its fields
            self._kinds.add(kind)
            referents += [f for f in _methods(kind) if _is_plugin_code(f.__module__)]
        return referents

    def _globals_of(self, function: FunctionType) -> list[Any]:
        """What the code of a plug-in takes from its module."""
        if not _is_plugin_code(function.__module__):
            return []
        names = set(_names(function.__code__))
        self.names |= names
        return [function.__globals__[name] for name in names if name in function.__globals__]


def _is_plugin_code(module: str | None) -> bool:
    """Is it neither ours, nor a library's, nor Python's?"""
    package = (module or "").partition(".")[0]
    return bool(package) and package not in _OURS | _LIBRARIES and package not in sys.stdlib_module_names


def _methods(kind: type) -> tuple[FunctionType, ...]:
    """The functions that a class and those above it define."""
    found: list[FunctionType] = []
    for each in kind.__mro__:
        for value in vars(each).values():
            inner = (value, *(getattr(value, part, None) for part in _WRAPPED))
            found += [function for function in inner if type(function) is FunctionType]
    return tuple(found)


def _names(code: CodeType) -> Iterator[str]:
    """The global names and attributes that code uses, with those of the functions inside it."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def _alike(a: Monitor, b: Monitor) -> bool:
    """True if two monitors differ only in name and role. Fields that cannot be compared count as equal."""
    if type(a) is not type(b):
        return False
    try:
        fields = set(type(a).model_fields) - {"name", "role"}
        return all(bool(np.all(getattr(a, field) == getattr(b, field))) for field in fields)
    except (TypeError, ValueError):
        return True
