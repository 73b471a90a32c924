"""Records that nobody can change: arrays are read-only, mappings are proxies, lists are tuples.

Everything that plug-ins are shown is made of such records, so that one plug-in cannot change what the next one sees. A
write raises. (It guards against mistakes: code that wants to can still reach the memory.)
"""

from __future__ import annotations

import copyreg
from collections.abc import Mapping
from dataclasses import fields
from functools import cache
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

WRITE_ERRORS = (
    "is read-only",
    "WRITEABLE",
    "object does not support item assignment",
    "object doesn't support item deletion",
    "cannot assign to field",
    "cannot delete field",
)
"""Parts of the messages with which Python and numpy refuse to change a frozen record."""


def frozen(value: Any) -> Any:
    """`value`, unchangeable: copies of arrays, mappings, lists and sets; anything else is returned as it is."""
    if isinstance(value, np.ndarray):
        if not value.flags.writeable:
            return value
        copy = value.copy()
        copy.setflags(write=False)
        return copy.view()  # a view of a locked array cannot be unlocked by setflags()
    if isinstance(value, (str, tuple, MappingProxyType)):
        return value
    if type(value) is dict or isinstance(value, Mapping):
        return MappingProxyType({key: frozen(item) for key, item in value.items()})
    if isinstance(value, list):
        return tuple(map(frozen, value))
    if isinstance(value, set):
        return frozenset(value)
    return value


def freeze(record: Any, *names: str) -> None:
    """Freeze these fields of a frozen dataclass; call it from `__post_init__`."""
    for name in names:
        object.__setattr__(record, name, frozen(getattr(record, name)))


def restore(record: Any, state: Any) -> None:
    """`__setstate__` of a frozen dataclass with slots: pickled arrays come back writeable, so they are locked again.

    Nothing is copied, as the values have just been made, and other fields are as they were when they were checked.
    """
    write = object.__setattr__
    for name, value in zip(_names(record.__class__), state, strict=True):
        write(record, name, _locked(value) if type(value) is np.ndarray else value)


def refuses_writing(error: BaseException | None) -> bool:
    """Did code that raised `error`, or its cause, try to change a frozen record?"""
    while error is not None:
        text = str(error) if isinstance(error, (ValueError, TypeError, AttributeError)) else ""
        if any(part in text for part in WRITE_ERRORS):
            return True
        error = error.__cause__
    return False


@cache
def _names(kind: Any) -> tuple[str, ...]:
    return tuple(each.name for each in fields(kind))


def _locked(array: NDArray[Any]) -> NDArray[Any]:
    if not array.flags.writeable:
        return array
    array.setflags(write=False)
    return array.view()  # as in `frozen`


def _proxy(items: dict[Any, Any]) -> MappingProxyType[Any, Any]:
    for key, value in items.items():
        if type(value) is np.ndarray:
            items[key] = _locked(value)
    return MappingProxyType(items)


# episodes travel between processes
copyreg.pickle(MappingProxyType, lambda proxy: (_proxy, (dict(proxy),)))
