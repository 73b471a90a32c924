"""A monitor inside another plug-in's settings, written as under `eval.monitors`: `{use: OvertAction, trait: harm}`."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import Annotated, Any

from pydantic import BeforeValidator, SerializeAsAny, ValidationError

from envs.discovery import subclasses
from envs.text import message_of
from shaping.monitors.base import Monitor


def built_monitor(given: Any) -> Any:
    """The monitor that a setting describes; other values are returned for pydantic to judge.

    Raises: ValueError that names the monitor and what is wrong with it.
    """
    spec = {"use": given} if isinstance(given, str) else given
    if not isinstance(spec, Mapping):
        return given
    fields = {str(name): value for name, value in spec.items() if name != "use"}
    if not isinstance(use := spec.get("use"), str) or not use:
        raise ValueError("name the monitor with `use`, as in {use: OvertAction}")
    try:
        return _monitor_class(use)(**fields)
    except ValidationError as error:
        faults = (f"{'.'.join(map(str, each['loc'])) or use}: {each['msg']}" for each in error.errors())
        raise ValueError(f"monitor {use!r}: {'; '.join(faults)}") from None


def _monitor_class(use: str) -> type[Monitor]:
    """A built-in monitor, one of an installed package, or `package.module:Class`."""
    known = subclasses("shaping.monitors", Monitor)
    points = {point.name: point for point in entry_points(group="shaping.monitors")}
    if ":" not in use and use not in known and use not in points:
        raise ValueError(
            f"unknown monitor {use!r}; built-in ones are {', '.join(sorted({*known, *points}))}, and your own is named "
            "as package.module:Class"
        )
    try:
        found: Any = known[use] if use in known else points[use].load() if use in points else _imported(use)
    except Exception as error:
        raise ValueError(f"monitor {use!r} does not load: {type(error).__name__}: {message_of(error)}") from error
    if not (isinstance(found, type) and issubclass(found, Monitor)):
        raise ValueError(f"monitor {use!r}: it is no subclass of shaping.monitors.base.Monitor")
    return found


def _imported(use: str) -> Any:
    module, _, name = use.partition(":")
    if (here := os.getcwd()) not in sys.path:
        sys.path.append(here)  # last: a file here must not shadow an installed module
    return getattr(importlib.import_module(module), name)


InlineMonitor = Annotated[SerializeAsAny[Monitor], BeforeValidator(built_monitor)]
"""The type of a field that holds a monitor. Whoever trains on its readings spends it, since the run finds it there."""
