"""Read YAML 1.2 (core schema) that anyone may have written: one line that names key and place for whatever is wrong.

Only true and false are booleans, and only decimal numbers, 0o17 and 0x1F are numbers: `on` and `1:30` are text. Merge
keys (`<<: *x`) work. Size, depth, and the size with all aliases written out are bounded; objects (`!!python/...`) are
never made.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NoReturn

import yaml

from launch.errors import ConfigError

MAX_CHARACTERS = 300_000
"""Characters of one document."""
MAX_EXPANDED = 1_000_000
"""Characters and values of one document with all aliases written out."""
MAX_DEPTH = 50
"""Mappings and lists within each other."""
MAX_DIGITS = 18
"""Digits of a whole number; it then fits 64 bits."""
MAX_KEY = 200
"""Characters of a key."""
MAX_SHOWN = 80
"""Characters of a key or a value that a message shows."""

_SYNTAX: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the one in C is ten times as fast
_MERGE = "<<"
_NULL = {"", "~", "null", "Null", "NULL"}
_TRUE, _FALSE = {"true", "True", "TRUE"}, {"false", "False", "FALSE"}
_INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_LEADING_ZERO = re.compile(r"0[0-9]+")
_SURROGATE = re.compile("[\ud800-\udfff]")
_TEXT_TAGS = {"!", "tag:yaml.org,2002:str"}


@dataclass(frozen=True)
class Document:
    """What a text says."""

    value: Any
    """Mappings, lists, text, numbers, booleans and None."""
    lines: dict[str, int]
    """Dotted key -> its line, counted from 1. Values of an alias have none of their own."""


def read_yaml(text: str, source: str, key: str = "") -> Document:
    """Read one YAML document.

    Args:
        text: The document.
        source: What messages call it.
        key: The dotted key under which the value goes.

    Raises:
        ConfigError: One line with `source`, the place and the key.
    """
    about = f"{source}: {short(key)}" if key else source
    if len(text) > MAX_CHARACTERS:
        raise ConfigError(f"{about}: {len(text):,} characters, and at most {MAX_CHARACTERS:,} are read")
    reader = _Reader(source)
    try:
        if half := _SURROGATE.search(text):
            line = text.count("\n", 0, half.start()) + 1
            raise ConfigError(f"{about}, line {line}: half of a surrogate pair is no character")
        reader.events = yaml.parse(text, Loader=_SYNTAX)
        return Document(reader.document(key), reader.lines)
    except yaml.MarkedYAMLError as error:
        reader.refuse(key, error.problem or error.context or "no YAML", error.problem_mark or error.context_mark)
    except (yaml.YAMLError, ValueError) as error:  # characters that YAML, or Unicode, does not have
        reason = (str(error).splitlines() or ["no YAML"])[0]
        raise ConfigError(f"{about}: {short(reason)}") from None


@dataclass
class _Reader:
    """Builds the value of a document while its events come."""

    source: str
    events: Iterator[Any] = field(default_factory=lambda: iter(()))
    lines: dict[str, int] = field(default_factory=dict)
    anchors: dict[str, tuple[Any, int] | None] = field(default_factory=dict)
    """Anchor -> its value and size; None while the value is being read."""
    size: int = 0
    """Size of what was read, with aliases written out."""

    def document(self, key: str) -> Any:
        value = None
        documents = 0
        for event in self.events:
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    self.refuse(key, "a second document begins here: give one", event.start_mark)
                value = self.value(next(self.events), key, 0)
        return value

    def value(self, event: Any, key: str, depth: int) -> Any:
        """The value that begins with `event`."""
        if isinstance(event, yaml.AliasEvent):
            return self.alias(event, key)
        before = self.size
        if event.anchor:
            self.anchors[event.anchor] = None
        self.note(key, event.start_mark)
        if event.tag and (event.tag not in _TEXT_TAGS or not isinstance(event, yaml.ScalarEvent)):
            self.refuse(key, f"the tag {_tag(event.tag)} is not read: write a plain value", event.start_mark)
        if isinstance(event, yaml.ScalarEvent):
            self.grow(1 + len(event.value), key, event.start_mark)
            value = self.scalar(event, key)
        else:
            if depth >= MAX_DEPTH:
                self.refuse(key, f"more than {MAX_DEPTH} mappings and lists within each other", event.start_mark)
            self.grow(1, key, event.start_mark)
            inside = self.mapping if isinstance(event, yaml.MappingStartEvent) else self.sequence
            value = inside(key, depth + 1)
        if event.anchor:
            self.anchors[event.anchor] = (value, self.size - before)
        return value

    def alias(self, event: Any, key: str) -> Any:
        if event.anchor not in self.anchors:
            self.refuse(key, f"no anchor &{short(event.anchor)} comes before this alias", event.start_mark)
        if (target := self.anchors[event.anchor]) is None:
            self.refuse(key, f"the alias *{short(event.anchor)} lies within its own value", event.start_mark)
        value, size = target
        self.grow(size, key, event.start_mark)
        return value

    def sequence(self, key: str, depth: int) -> list[Any]:
        items: list[Any] = []
        while not isinstance(event := next(self.events), yaml.SequenceEndEvent):
            items.append(self.value(event, _under(key, len(items)), depth))
        return items

    def mapping(self, key: str, depth: int) -> dict[Any, Any]:
        own: dict[Any, Any] = {}
        merged: dict[Any, Any] = {}
        merges = 0
        while not isinstance(event := next(self.events), yaml.MappingEndEvent):
            plain = isinstance(event, yaml.ScalarEvent) and event.implicit[0]
            name = self.value(event, key, depth)
            if not isinstance(name, str) and type(name) is not int:
                self.refuse(key, f"{short(repr(name))} cannot be a key: write it in quotes", event.start_mark)
            if len(str(name)) > MAX_KEY:
                self.refuse(
                    key, f"a key of {len(str(name)):,} characters; at most {MAX_KEY} are read", event.start_mark
                )
            where = _under(key, name)
            if name in own or (merges and plain and name == _MERGE):
                self.refuse(where, f"{short(repr(name))} occurs twice", event.start_mark)
            value = self.value(next(self.events), where, depth)
            self.note(where, event.start_mark)
            if plain and name == _MERGE:
                merges += 1
                merged = self.merge(value, where, event.start_mark)
            else:
                own[name] = value
        return {**merged, **own}

    def merge(self, value: Any, key: str, mark: Any) -> dict[Any, Any]:
        """What `<<` adds: a mapping, or a list of them, of which earlier ones win."""
        sources = value if isinstance(value, list) else [value]
        if not all(isinstance(each, dict) for each in sources):
            self.refuse(key, "merges a mapping, or a list of mappings", mark)
        merged: dict[Any, Any] = {}
        for each in sources:
            merged = {**each, **merged}
        return merged

    def scalar(self, event: Any, key: str) -> Any:
        text = event.value
        if _SURROGATE.search(text):
            self.refuse(key, "half of a surrogate pair is no character", event.start_mark)
        if event.tag or not event.implicit[0]:
            return text
        if text in _NULL:
            return None
        if text in _TRUE or text in _FALSE:
            return text in _TRUE
        if _INTEGER.fullmatch(text):
            return self.whole(text, key, event.start_mark)
        if _FLOAT.fullmatch(text):
            if not math.isfinite(number := float(text.replace(".inf", "inf").replace(".nan", "nan"))):
                self.refuse(key, f"{number} is not a finite number", event.start_mark)
            return number
        return text

    def whole(self, text: str, key: str, mark: Any) -> int:
        digits = text.lstrip("+-")
        if _LEADING_ZERO.fullmatch(digits):
            self.refuse(key, "a number with a leading zero: leave the zero out, or quote the text", mark)
        if len(digits) > MAX_DIGITS:
            self.refuse(key, f"a number of {len(digits):,} digits; at most {MAX_DIGITS} are read", mark)
        return int(text, 0) if digits[1:2] in ("o", "x") else int(text)

    def grow(self, size: int, key: str, mark: Any) -> None:
        self.size += size
        if self.size > MAX_EXPANDED:
            self.refuse(key, f"with all aliases written out, more than {MAX_EXPANDED:,} characters", mark)

    def note(self, key: str, mark: Any) -> None:
        if len(key) <= 2 * MAX_KEY:  # deep and long keys would take more memory than the document
            self.lines[key] = mark.line + 1

    def refuse(self, key: str, problem: str, mark: Any) -> NoReturn:
        place = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise ConfigError(f"{self.source}{place}: {short(key) + ': ' if key else ''}{problem}")


def _tag(tag: str) -> str:
    return short(tag.replace("tag:yaml.org,2002:", "!!"))


def _under(key: str, name: object) -> str:
    return f"{key}.{name}" if key else str(name)


def short(text: str) -> str:
    """One printable line of at most `MAX_SHOWN` characters."""
    text = "".join(c if c.isprintable() else "\ufffd" for c in text[: MAX_SHOWN + 1])
    return text if len(text) <= MAX_SHOWN else f"{text[: MAX_SHOWN - 3]}..."
