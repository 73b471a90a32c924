"""Values that pydantic would convert in silence: `lr: true` to 1.0, `updates: "4"` to 4, `base: yes` to true."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel


def conversions(given: Any, built: Any, key: str = "") -> Iterator[str]:
    """One line per value of `given` that became another type in `built`, which was validated from it.

    Numbers must be written as numbers and booleans as true or false. A whole number is a float, too.
    """
    if isinstance(given, Mapping):
        for name, value in given.items():
            inside = _inside(built, name)
            if inside is not None:
                yield from conversions(value, inside, f"{key}.{name}" if key else str(name))
    elif isinstance(given, (list, tuple)) and isinstance(built, (list, tuple)):
        for index, (value, inside) in enumerate(zip(given, built, strict=False)):
            yield from conversions(value, inside, f"{key}.{index}" if key else str(index))
    elif isinstance(built, bool):
        if not isinstance(given, bool):
            yield f"{key}: write true or false, not {_shown(given)}"
    elif isinstance(built, (int, float)):
        if isinstance(given, bool):
            yield f"{key}: write a number, not {_shown(given)}"
        elif isinstance(given, str):
            yield f"{key}: write a number without quotes, underscores or colons, not the text {_shown(given)}"


def _inside(built: Any, name: Any) -> Any:
    if isinstance(built, BaseModel):
        return getattr(built, name, None) if name in type(built).model_fields else None
    return built.get(name) if isinstance(built, Mapping) else None


def _shown(value: Any) -> str:
    text = str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
