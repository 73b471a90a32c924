"""Model text is untrusted: how it is made safe for HTML, inline JSON and plot labels. And how numbers are told."""

from __future__ import annotations

import html
import json
import math
import re
from typing import Any

LIMIT = 700
"""Longest piece of model text that a page shows, in characters."""

# Control characters and the marks that turn the direction of the text around them: shown, never obeyed.
_INVISIBLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def visible(text: str, limit: int = LIMIT) -> str:
    """The text without characters that act on their surroundings, and cut at `limit` with a remark."""
    clean = _INVISIBLE.sub("\N{REPLACEMENT CHARACTER}", text.replace("\r\n", "\n"))
    if len(clean) <= limit:
        return clean
    return f"{clean[:limit]} […{len(clean) - limit} more characters]"


def inline_json(value: Any) -> str:
    """JSON that can stand inside a <script> element: nothing in it can end the element or open a comment."""
    text = value if isinstance(value, str) else json.dumps(value)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


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


def _fixed(value: float, digits: int, sign: str) -> str:
    """Fixed decimals with a true minus sign, and no sign on zero."""
    if round(value, digits) == 0:
        return f"{0:.{digits}f}"
    return f"{value:{sign}.{digits}f}".replace("-", "\N{MINUS SIGN}")
