"""Plug-ins inside the settings of another one, written as anywhere in a config: `{use: OvertAction, trait: harm}`."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import Any

from pydantic import BaseModel, ValidationError

from envs.discovery import subclasses
from envs.modules.own_modules import import_class, named
from envs.text import faults_of, message_of


def built(given: Any, noun: str, base: type[BaseModel], packages: tuple[str, ...], group: str) -> Any:
    """What a setting describes; values that describe nothing are returned for pydantic to judge.

    Args:
        given: a name, or a mapping with `use` and fields.
        noun: what it is called in messages.
        base: what its class must subclass.
        packages: where built-in ones are found.
        group: the group of entry points of installed packages.
    Raises: ValueError that names the plug-in and what is wrong with it.
    """
    spec = {"use": given} if isinstance(given, str) else given
    if not isinstance(spec, Mapping):
        return given
    fields = {str(name): value for name, value in spec.items() if name != "use"}
    if not isinstance(use := spec.get("use"), str) or not use:
        raise ValueError(f"name the {noun} with `use`, as in {{use: Name, field: value}}")
    try:
        return _class_of(use, noun, base, packages, group)(**fields)
    except ValidationError as error:
        raise ValueError(f"{noun} {use!r}: {faults_of(error, use)}") from None


def described(plugin: BaseModel | None) -> dict[str, Any] | None:
    """A plug-in as the setting that builds it, for configs that are written."""
    if plugin is None:
        return None
    kind = type(plugin)
    built_in = kind.__module__.partition(".")[0] == __name__.partition(".")[0]
    return {"use": kind.__name__ if built_in else named(kind), **plugin.model_dump()}


def _class_of(use: str, noun: str, base: type[BaseModel], packages: tuple[str, ...], group: str) -> Any:
    """A built-in class, one of an installed package, or `package.module:Class`."""
    known: dict[str, Any] = {name: each for package in packages for name, each in subclasses(package, base).items()}
    points = {point.name: point for point in entry_points(group=group)}
    if ":" not in use and use not in known and use not in points:
        raise ValueError(
            f"unknown {noun} {use!r}; built-in ones are {', '.join(sorted({*known, *points}))}, and your own is named "
            "as package.module:Class or ./module.py:Class"
        )
    try:
        found: Any = known[use] if use in known else points[use].load() if use in points else import_class(use)
    except Exception as error:
        raise ValueError(f"{noun} {use!r} does not load: {type(error).__name__}: {message_of(error)}") from error
    if not (isinstance(found, type) and issubclass(found, base)):
        raise ValueError(f"{noun} {use!r}: it is no subclass of {base.__module__}.{base.__name__}")
    return found
