"""Text from outside, made valid once, at the border.

Worlds, plug-ins, config files and files of other programs can hold *lone surrogates*: halves of a character, which
Python strings admit and which UTF-8, JSON readers, Parquet, tokenizers and terminals do not. `valid` makes each of
them U+FFFD, the replacement character. `valid_tree` does so in a whole document. Both can count what they replaced.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

REPLACEMENT = "\ufffd"


def valid(text: str, counted: Counter[str] | None = None, source: str = "") -> str:
    """`text` with U+FFFD in place of every lone surrogate; a pair of surrogates becomes its character.

    `counted[source]` grows by the number of replacements.
    """
    if text.isascii():
        return str(text)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        made = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
        if counted is not None:
            counted[source] += max(made.count(REPLACEMENT) - text.count(REPLACEMENT), 0)
        return made
    return str(text)


def valid_tree(value: Any, counted: Counter[str] | None = None, source: str = "") -> Any:
    """A document with valid text: strings, and the keys and items of mappings, lists and tuples."""
    if isinstance(value, str):
        return valid(value, counted, source)
    if isinstance(value, Mapping):
        return {valid_tree(k, counted, source): valid_tree(v, counted, source) for k, v in value.items()}
    if isinstance(value, list):
        return [valid_tree(item, counted, source) for item in value]
    if type(value) is tuple:
        return tuple(valid_tree(item, counted, source) for item in value)
    return value


def message_of(error: BaseException) -> str:
    """The text of an exception, whatever its `str()` does: plug-ins raise theirs."""
    try:
        return valid(str(error))
    except Exception as failure:
        return f"(its message cannot be read: str() raised {type(failure).__name__})"


def faults_of(error: ValidationError, whole: str = "the settings") -> str:
    """Every value that was refused, by its key, and why; `whole` names what is refused as a whole."""
    found = error.errors(include_url=False, include_context=False)
    return "; ".join(
        f"{'.'.join(map(str, each['loc'])) or whole}: {each['msg'].removeprefix('Value error, ')}" for each in found
    )
