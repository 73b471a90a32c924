"""Find the monitors that are trained against: those that an intervention or a reward can reach."""

from __future__ import annotations

import gc
from collections.abc import Iterable, Sequence
from types import FrameType, FunctionType, ModuleType
from typing import Any

import numpy as np
from pydantic import BaseModel

from shaping.monitors.base import Monitor

_LEFT_OUT = (type, ModuleType, FrameType, str, bytes, int, float)


def reachable_monitors(roots: Iterable[object]) -> list[Monitor]:
    """Every monitor in the object graph below `roots`, each object once, sorted by name.

    The search follows fields, private attributes, class variables, containers, closures, default arguments and other
    objects, at any depth. It does not follow classes, modules and the globals of functions: it misses a monitor that a
    method takes from a module's global variable.
    """
    monitors: list[Monitor] = []
    seen: dict[int, object] = {}  # keeps the objects alive, so that no two of them share an id
    pending: list[Any] = list(roots)
    while pending:
        thing = pending.pop()
        if id(thing) in seen or issubclass(type(thing), _LEFT_OUT):  # type(): isinstance() can fail on a proxy
            continue
        seen[id(thing)] = thing
        if issubclass(type(thing), Monitor):
            monitors.append(thing)
        pending += _referents(thing)
    return sorted(monitors, key=lambda monitor: monitor.name)


def spent_names(roots: Iterable[object], monitors: Sequence[Monitor]) -> list[str]:
    """Names of the monitors that are trained against.

    These are the monitors below `roots`, and those of `monitors` that differ from one of them only in name and role: a
    monitor that is trained against under one name is spent under every name.
    """
    trained = reachable_monitors(roots)
    alike = [m for m in monitors if any(_alike(m, other) for other in trained)]
    return sorted({m.name for m in [*trained, *alike]})


def _referents(thing: Any) -> list[Any]:
    if type(thing) is FunctionType:
        return [thing.__closure__, thing.__defaults__, thing.__kwdefaults__, thing.__dict__]
    referents = gc.get_referents(thing)
    if issubclass(type(thing), BaseModel):
        referents += [getattr(type(thing), name, None) for name in type(thing).__class_vars__]
    return referents


def _alike(a: Monitor, b: Monitor) -> bool:
    """True if two monitors differ only in name and role. Fields that cannot be compared count as equal."""
    if type(a) is not type(b):
        return False
    try:
        fields = set(type(a).model_fields) - {"name", "role"}
        return all(bool(np.all(getattr(a, field) == getattr(b, field))) for field in fields)
    except (TypeError, ValueError):
        return True
