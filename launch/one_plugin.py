"""`shaping list NAME`: one plug-in, with its docstring and its fields."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from envs.modules.own_modules import named
from launch.config.plugins import INTERVENTION, KINDS, WORLD, builtins, find_class, installed, kind_of

_WIDTH = 100
"""Characters of the longest type that is shown whole."""


def names() -> list[str]:
    """Every name that `lines` knows, beside classes of one's own."""
    return sorted({name for kind in KINDS for name in (*builtins(kind), *installed(kind))})


def lines(name: str) -> Iterator[str]:
    """The class, its docstring, and each field with type, default and description. Raises `PluginError`."""
    kind = kind_of(name.partition("@")[0], KINDS)
    found = find_class(name.partition("@")[0], kind)
    noun = kind.noun
    if kind is INTERVENTION:
        noun = "shaper" if any(each.__name__ == "Shaper" for each in found.__mro__) else "constraint"
    yield f"{name} ({named(found)}), {noun}"
    yield from (f"  {line}".rstrip() for line in (inspect.getdoc(found) or "").splitlines())
    model = getattr(found, "Options", None) if kind is WORLD else found
    rows = list(_fields(model) if isinstance(model, type) and issubclass(model, BaseModel) else _parameters(found))
    yield "options" if kind is WORLD else "fields"
    widths = [max((len(row[place]) for row in rows), default=0) for place in range(3)]
    for row in rows:
        cells = (text.ljust(width) for text, width in zip(row[:3], widths, strict=True))
        yield f"  {'  '.join(cells)}  {row[3]}".rstrip()
    if not rows:
        yield "  none"


def _fields(model: type[BaseModel]) -> Iterator[tuple[str, str, str, str]]:
    for name, field in model.model_fields.items():
        yield name, _type(field.annotation), _default(field), " ".join((field.description or "").split())


def _parameters(found: type) -> Iterator[tuple[str, str, str, str]]:
    """Of a world without a model of options: the named parameters of its constructor."""
    if found.__init__ is object.__init__:  # type: ignore[misc]
        return
    for parameter in inspect.signature(found).parameters.values():
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            known = parameter.default is not parameter.empty
            annotation = parameter.annotation if parameter.annotation is not parameter.empty else ""
            yield parameter.name, str(annotation), repr(parameter.default) if known else "required", ""


def _type(annotation: Any) -> str:
    """`float`, `"always" | "never"`, `tuple[str, ...]`."""
    if get_origin(annotation) is Literal and all(isinstance(each, str) for each in get_args(annotation)):
        return "|".join(get_args(annotation))
    text = annotation.__name__ if isinstance(annotation, type) and not get_args(annotation) else str(annotation)
    text = text.replace("typing.", "").replace("NoneType", "None").replace(" | ", "|").replace(", ", ",")
    return text if len(text) <= _WIDTH else f"{text[:_WIDTH]}..."


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    if field.default_factory is not None:
        return "made anew"
    text = repr(field.default)
    return text if len(text) <= 40 else f"{text[:40]}..."
