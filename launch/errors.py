"""Errors that a user can cause. Each message names the problem, its place and a remedy."""

from __future__ import annotations

import difflib
import types
from collections.abc import Iterable
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, Tag, ValidationError


class UserError(Exception):
    """Printed without a traceback; the command ends with exit code 1."""


class ConfigError(UserError):
    """A config file, an override or a plug-in's fields are wrong."""


class RunDirectoryError(UserError):
    """A directory is foreign, damaged, or in use by another process."""


class DiskFullError(UserError):
    """The disk is full. Finished runs are intact."""


def nearest(name: str, valid: Iterable[str]) -> str:
    """`" (did you mean 'x'?)"`, or the list of valid names if none is similar."""
    names = sorted({str(v) for v in valid})
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.55)
    if close:
        return f" (did you mean {close[0]!r}?)"
    return f" (valid: {', '.join(names)})" if names else ""


def describe(error: ValidationError, model: type[BaseModel], *, prefix: str = "") -> str:
    """One line per problem: the dotted key, the error, and for an unknown key the most similar valid one.

    `prefix` is put before every key.
    """
    lines = []
    for problem in error.errors():
        parts, fields = _walk(model, problem["loc"])
        key = ".".join([prefix, *parts] if prefix else parts) or "the top level"
        if problem["type"] == "extra_forbidden":
            lines.append(f"{key}: unknown key{nearest(parts[-1], fields)}")
        elif problem["type"] == "missing":
            lines.append(f"{key}: this key is required")
        else:
            lines.append(f"{key}: {_message(problem)}")
    return "\n".join(dict.fromkeys(lines))


def plain(error: ValidationError) -> str:
    """One line per problem, where the model that refused the values is not known: `lr: the error (got 3)`."""
    lines = []
    for problem in error.errors(include_url=False, include_context=False):
        key = ".".join(map(str, problem["loc"])) or "the value"
        lines.append(f"{key}: {_message(problem)}")
    return "\n".join(dict.fromkeys(lines))


def _message(problem: Any) -> str:
    """What is wrong with a value, and the value, if that is short and not told by the message."""
    message = problem["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
    shown = repr(problem["input"])
    told = problem["type"] in ("value_error", "missing", "extra_forbidden") or len(shown) > 80
    return message if told else f"{message} (got {shown})"


def _walk(model: Any, location: tuple[int | str, ...]) -> tuple[list[str], list[str]]:
    """The keys of an error's location as the user writes them, and the valid names in place of the last one."""
    parts: list[str] = []
    fields: list[str] = []
    for part in location:
        if (member := _tagged(model, part)) is not None:
            model = member
            continue
        kind = _container(model)
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            fields = sorted(kind.model_fields)
            parts.append(str(part))
            model = kind.model_fields[part].annotation if part in kind.model_fields else None
        elif get_origin(kind) in (dict, list, tuple):
            fields = []
            parts.append(str(part))
            model = get_args(kind)[-1]
        else:  # a member of a union, or part of an untyped value
            continue
    return parts, fields


def _tagged(annotation: Any, name: int | str) -> Any:
    """The member of a union that carries this tag, which is no key that the user has written."""
    annotation = _bare(annotation)
    members = get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else ()
    for kind, *marks in (get_args(member) for member in members if get_origin(member) is Annotated):
        if any(isinstance(mark, Tag) and mark.tag == name for mark in marks):
            return kind
    return None


def _container(annotation: Any) -> Any:
    """The first member of a union that has keys, or the annotation itself."""
    annotation = _bare(annotation)
    if get_origin(annotation) in (Union, types.UnionType):
        for member in get_args(annotation):
            if (isinstance(member, type) and issubclass(member, BaseModel)) or get_origin(member) in (dict, list):
                return member
    return annotation


def _bare(annotation: Any) -> Any:
    """The annotation without what is said of it, such as how the members of a union are told apart."""
    return get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation
