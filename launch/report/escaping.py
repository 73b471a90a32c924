"""Model text is untrusted: how it is made safe for HTML, JSON, plot labels and CSV. And how numbers are told."""

from __future__ import annotations

import html
import json
import math
import re
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from envs.escaping import ACTING, revealed

LIMIT = 700
"""Longest piece of model text that a page shows, in characters."""
_MARKUP = re.compile("[<>&]")
_FORMULA = tuple("=+-@\uff1d\uff0b\uff0d\uff20\t\r")
"""First characters that make a cell a formula, or begin a cell of its own, in some spreadsheet."""


def visible(text: str, limit: int | None = LIMIT) -> str:
    """Text for HTML and Markdown: characters that act on their surroundings are shown; cut at `limit` with a remark."""
    text = text.replace("\r\n", "\n")
    if limit is None or len(text) <= limit:
        return revealed(text)
    return f"{revealed(text[:limit])} […{len(text) - limit} more characters]"


def json_text(value: Any, indent: int | None = None) -> str:
    """JSON for a reader: letters as they are, and every character that acts on its surroundings as its escape."""
    return ACTING.sub(_in_json, json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False))


def inline_json(value: Any) -> str:
    """JSON that can stand inside a <script> element: nothing in it can end the element or open a comment."""
    text = value if isinstance(value, str) else json.dumps(value)
    return ACTING.sub(_in_json, _MARKUP.sub(_in_json, text))


def csv_cell(value: object) -> object:
    """A cell that a spreadsheet shows as text: no formula, no control character, one line. Numbers stay numbers."""
    if not isinstance(value, str):
        return value
    shown = revealed(value).replace("\n", r"\n").replace("\t", r"\t")
    return f"'{shown}" if value.lstrip(" ").startswith(_FORMULA) else shown


def plot_text(text: str) -> str:
    """For labels and hover text: plotly reads a subset of HTML in them, and hover templates read %{...}."""
    return html.escape(visible(text, 120)).replace("%{", "%\u200b{")


def signed(mean: float, low: float, high: float, digits: int = 3) -> str:
    """`+0.12 [+0.05, +0.19]`; `n/a` for what does not exist."""
    if math.isnan(mean):
        return "n/a"
    shown = [_fixed(x, digits, "+") for x in (mean, low, high)]
    return shown[0] if math.isnan(low) else f"{shown[0]} [{shown[1]}, {shown[2]}]"


def plain(mean: float, low: float, high: float, digits: int = 2) -> str:
    """`0.62 [0.55, 0.69]`; `–` for what does not exist."""
    if math.isnan(mean):
        return "–"
    shown = [_fixed(x, digits, "") for x in (mean, low, high)]
    return shown[0] if math.isnan(low) else f"{shown[0]} [{shown[1]}, {shown[2]}]"


def _in_json(found: re.Match[str]) -> str:
    """The escapes of JSON, a pair of them beyond U+FFFF."""
    units = found.group().encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))


def _fixed(value: float, digits: int, sign: str) -> str:
    """Fixed decimals with a true minus sign, and no sign on zero."""
    if round(value, digits) == 0:
        return f"{0:.{digits}f}"
    return f"{value:{sign}.{digits}f}".replace("-", "\N{MINUS SIGN}")


def escaping_environment(templates: Path) -> Environment:
    """An environment of jinja for the templates of a folder; a value that is not given is an error."""
    return Environment(
        loader=FileSystemLoader(templates),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_clean,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _clean(value: Any) -> Any:
    """Text without signs that act on their surroundings; jinja escapes it afterwards. Markup is our own."""
    return visible(value, None) if isinstance(value, str) and not isinstance(value, Markup) else value
