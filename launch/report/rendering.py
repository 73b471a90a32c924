"""How templates become HTML. Every value is escaped, and no invisible sign of a value reaches the page."""

from __future__ import annotations

import functools
import math
from pathlib import Path
from typing import Any

from jinja2 import Environment
from markupsafe import Markup

from launch.report.escaping import escaping_environment, inline_json, plain, signed, visible
from launch.report.figures import Figure
from launch.report.table import Interval
from shaping.audits.conduct.grid import Estimate

TEMPLATES = Path(__file__).parent / "templates"


def render(source: str, **values: Any) -> Markup:
    """The HTML of a template's text. It can import `macros.html.j2`."""
    return Markup(environment().from_string(source).render(**values))


@functools.cache
def environment() -> Environment:
    """Templates of the frame, and the filters of all templates: text, number, signed, level, p, odds, percent."""
    found = escaping_environment(TEMPLATES)
    found.filters |= {"text": visible, "number": _number, "signed": _signed, "level": _level, "p": p_value}
    found.filters |= {"odds": _odds, "percent": _percent}
    found.globals["json_of"] = _figure_json
    return found


def _figure_json(figure: Figure) -> Markup:
    """A figure for a <script type="application/json"> element: safe there by `inline_json`, so not escaped again."""
    return Markup(inline_json(figure.plot.to_json()))


def _number(cell: Interval) -> tuple[str, str]:
    """(mean, interval) for two lines of a table cell."""
    text = plain(*cell[:3])
    mean, _, bounds = text.partition(" ")
    return mean, bounds


def _signed(cell: Interval) -> str:
    return signed(*cell[:3])


def _odds(found: Estimate) -> str:
    return signed(*found[:3], digits=2)


def _percent(share: float) -> str:
    return f"{share:.0%}"


def _level(level: float) -> str:
    return f"{100 * level:.3g}%"


def p_value(p: float) -> str:
    """A p-value for a table."""
    return "n/a" if math.isnan(p) else "< 0.001" if p < 0.001 else f"{p:.3f}"
