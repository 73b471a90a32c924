"""Markdown that reads well unrendered, too: a sign is escaped only where it would really be read as markup.

Everything that stands in a report may have been written by a model, so text goes through `inline`, `line` or `cell`,
and renders as itself: no emphasis, code, HTML, link, image, list, heading or further table cell comes of it.
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterable, Sequence

from launch.report.escaping import LIMIT, visible

PADDED = 48
"""Columns are padded to one width up to this many characters, so that tables line up before they are rendered."""

_MARKUP = re.compile(
    rf"""
      (?P<escape> \\ (?=[{re.escape(string.punctuation)}]|$))
    | (?P<code> `)
    | (?P<run> \*+ | _+ | ~+)
    | (?P<tag> < (?=[A-Za-z/!?]|$))
    | (?P<entity> & (?=\#?\w+;))
    | (?P<link> \] (?=[(\[:]) | \[ (?=\^))
    | (?P<address> (?<=:)/ (?=/) | (?<=www)\.)
    | (?P<mention> (?<!\w)@(?=\w) | (?<=\w)@ (?=[\w-]+\.\w))
    """,
    re.VERBOSE | re.IGNORECASE,
)
_LEADING = re.compile(r"(?P<mark>\#{1,6}(?=\s|$)|>|[-+](?=\s|$)|-(?=-+$)|=(?==*$)|\[(?=[ x]\](\s|$)))", re.IGNORECASE)
_NUMBERED = re.compile(r"^(\d{1,9})([.)])(?=\s|$)")
_CLOSING = re.compile(r"(?<!\S)(#+)$")


def line(text: str, limit: int = LIMIT) -> str:
    """One line of Markdown, or one item of a list, that renders as the text itself."""
    found = _NUMBERED.sub(r"\1\\\2", _escaped(" ".join(visible(text, limit).split()), edge="x"))
    found = f"\\{found}" if _LEADING.match(found) else found
    return _CLOSING.sub(r"\\\1", found)


def inline(text: str, limit: int = LIMIT) -> str:
    """The same within a line: what comes after it cannot make a link of it."""
    escaped = _escaped(" ".join(visible(text, limit).split()), edge="x")
    return re.sub(r"\]$", r"\]", escaped)


def cell(text: str, limit: int = LIMIT) -> str:
    """The same as the whole content of a table's cell."""
    return _escaped(" ".join(visible(text, limit).split()), edge=" ").replace("|", r"\|")


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of plain texts; all of them are escaped here."""
    lines = [[cell(text) for text in row] for row in (head, *rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    widths = [max(3, width) if width <= PADDED else 3 for width in widths]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join("| " + " | ".join(t.ljust(w) for t, w in zip(row, widths, strict=True)) + " |" for row in lines)


def bullets(items: Iterable[str]) -> str:
    """A list of plain texts; all of them are escaped here."""
    return "\n".join(f"- {line(item, len(item))}" for item in items)


def blocks(*parts: str) -> str:
    """Paragraphs, tables and lists one below the other; empty ones are left out."""
    return "\n\n".join(part for part in parts if part)


def _escaped(text: str, edge: str) -> str:
    """`edge` stands for what is beside the text: a blank where nothing can touch it."""
    many = text.count("$") > 1  # two of them are a formula on GitHub

    def escape(found: re.Match[str]) -> str:
        sign = found.group()
        if found.lastgroup in ("tag", "entity"):
            return {"<": "&lt;", "&": "&amp;"}[sign]
        if found.lastgroup == "run":
            before, after = f"{edge}{text}{edge}"[found.start()], f"{edge}{text}{edge}"[found.end() + 1]
            at_edge = edge != " " and (found.start() == 0 or found.end() == len(text))
            if not at_edge and ((before.isspace() and after.isspace()) or (sign[0] == "_" and _in_word(before, after))):
                return sign
        return "".join(f"\\{each}" for each in sign)

    escaped = _MARKUP.sub(escape, text)
    return escaped.replace("$", r"\$") if many else escaped


def _in_word(before: str, after: str) -> bool:
    """Underscores between letters and digits are part of a name, never emphasis."""
    return before.isalnum() and after.isalnum()
