"""Pieces of a picture in SVG: text, boxes, arrows. Every text is escaped."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from html import escape

SANS = "ui-sans-serif, system-ui, -apple-system, 'Segoe UI', Roboto, 'Liberation Sans', sans-serif"
MONO = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'Liberation Mono', monospace"
INK, FAINT, LINE = "#1f2328", "#59636e", "#d1d9e0"
SHAPER, CONSTRAINT, PLUGIN = "#00796b", "#c2410c", "#1d4ed8"
"""Colours of what shapers may do, of what constraints alone may do, and of other plug-ins."""


def picture(width: int, height: int, title: str, parts: Iterable[str]) -> str:
    """The whole file, on white, so that it can be read on a dark page, too."""
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" font-family="{SANS}">\n'
        f"<title>{escape(title)}</title>\n"
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" '
        f'orient="auto-start-reverse"><path d="M0 0 8 4 0 8z" fill="{FAINT}"/></marker></defs>\n'
        f'<rect width="{width}" height="{height}" rx="10" fill="#ffffff"/>\n'
    )
    return head + "\n".join(parts) + "\n</svg>\n"


def text(
    x: float, y: float, said: str, *, size: float = 14, fill: str = INK, mono: bool = False, style: str = ""
) -> str:
    """One line; `style` is `bold`, `italic`, or empty. Blanks within it are kept."""
    more = {"bold": ' font-weight="600"', "italic": ' font-style="italic"', "": ""}[style]
    family = f' font-family="{MONO}"' if mono else ""
    return f'<text x="{x:g}" y="{y:g}" font-size="{size:g}" fill="{fill}"{family}{more}>{escape(said)}</text>'


def lines(x: float, y: float, said: Sequence[str], *, step: float = 18, **look: object) -> list[str]:
    """Lines below each other, the first on `y`."""
    return [text(x, y + n * step, line, **look) for n, line in enumerate(said)]  # type: ignore[arg-type]


def wrapped(said: str, width: int) -> list[str]:
    return textwrap.wrap(said, width, break_on_hyphens=False)


def box(x: float, y: float, width: float, height: float, *, fill: str = "#f6f8fa", line: str = LINE) -> str:
    return f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="8" fill="{fill}" stroke="{line}"/>'


def arrow(*points: tuple[float, float]) -> str:
    """A line through the points, with a tip at the last."""
    path = " ".join(f"{x:g},{y:g}" for x, y in points)
    return f'<polyline points="{path}" fill="none" stroke="{FAINT}" stroke-width="1.6" marker-end="url(#tip)"/>'


def dot(x: float, y: float, fill: str) -> str:
    return f'<circle cx="{x:g}" cy="{y:g}" r="4" fill="{fill}"/>'
