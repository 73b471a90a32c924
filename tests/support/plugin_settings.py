"""The settings of plug-ins: which to try each with, and what they must be like."""

from __future__ import annotations

import inspect
import json
import pickle
from collections.abc import Iterable, Iterator
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

import pytest
from pydantic import BaseModel, ValidationError


def every_choice(kinds: Iterable[type[BaseModel]]) -> list[Any]:
    """Parameters (kind, settings): each kind as it is, and with each choice of each field that offers a few."""
    found = []
    for kind in kinds:
        base = needed(kind)
        found.append(pytest.param(kind, base, id=kind.__name__))
        for name, field in kind.model_fields.items():
            for choice in _choices(field.annotation):
                settings = {**base, name: choice}
                if choice != field.default and _builds(kind, settings):
                    found.append(pytest.param(kind, settings, id=f"{kind.__name__}-{name}={choice}"))
    return found


def needed(kind: type[BaseModel]) -> dict[str, Any]:
    """Settings for the fields without a default, the first of the field's examples, and what a plug-in's own has."""
    required = {name: field for name, field in kind.model_fields.items() if field.is_required()}
    without = [name for name, field in required.items() if not field.examples]
    assert not without, f"{kind.__name__}: {without} must be given, so give Field(examples=[...]) of what can be"
    settings = {name: field.examples[0] for name, field in required.items() if field.examples}
    if "example" in vars(kind):
        shown = kind.example()  # type: ignore[attr-defined]
        settings |= {name: value for name, value in shown if value != kind.model_fields[name].default}
    return settings


def check_settings(kind: type[BaseModel]) -> None:
    """Documented, frozen, strict about names, and the same after a YAML file, a pickle and a worker process."""
    own = vars(kind).get("__doc__") or ""
    assert inspect.cleandoc(own).partition("\n")[0].endswith("."), f"{kind.__name__}: begin with a one-line sentence"
    bare = [name for name in kind.model_fields if not _described(kind, name)]
    assert not bare, f"{kind.__name__}: say in one line what {bare} are"
    made = kind(**needed(kind))
    for name in kind.model_fields:
        with pytest.raises(ValidationError, match="frozen"):
            setattr(made, name, getattr(made, name))
    with pytest.raises(ValidationError, match="no_such_setting"):
        kind(**needed(kind), no_such_setting=1)
    assert kind(**json.loads(made.model_dump_json())) == made
    assert pickle.loads(pickle.dumps(made)) == made


def _described(kind: type[BaseModel], name: str) -> bool:
    """By itself, or by the base class that introduced the field."""
    fields = [base.model_fields.get(name) for base in kind.__mro__ if issubclass(base, BaseModel)]
    return any(field is not None and (field.description or "").strip() for field in fields)


def _choices(annotation: Any) -> Iterator[Any]:
    if annotation is bool:
        yield from (False, True)
    elif get_origin(annotation) is Literal:
        yield from get_args(annotation)
    elif get_origin(annotation) in (Union, UnionType):
        for each in get_args(annotation):
            yield from _choices(each)


def _builds(kind: type[BaseModel], settings: dict[str, Any]) -> bool:
    try:
        kind(**settings)
    except ValidationError:
        return False
    return True
