"""Charts as static SVG: a notebook, a page or a hub shows them without any script."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from markupsafe import Markup

from launch.report.escaping import escaping_environment, visible
from launch.storage.files import disk_errors, write_text

WIDTH = 900
_TEMPLATES = Path(__file__).parent / "templates"
_LABELS, _RIGHT, _ROW, _LINE = 330, 190, 22, 14
_LETTERS = 46
"""Letters of 12 pixels that fit beside a forest plot, in a wide font."""
_PLOT_HEIGHT, _LEFT, _TOP = 260, 62, 30


@dataclass(frozen=True)
class Chart:
    """A finished chart."""

    title: str
    svg: Markup
    """The whole element; every text in it is escaped."""

    def save(self, path: Path | str) -> Path:
        """Write it as a file that stands alone."""
        with disk_errors(Path(path)):
            write_text(Path(path), f'<?xml version="1.0" encoding="UTF-8"?>\n{self.svg}\n')
        return Path(path)

    def _repr_svg_(self) -> str:
        return str(self.svg)

    def __repr__(self) -> str:
        return f"<chart {self.title!r}: .save(path) writes its SVG>"


@dataclass(frozen=True)
class Line:
    """A curve and its band, over the same x."""

    label: str
    colour: str
    x: Sequence[float]
    mean: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]
    dash: str = ""
    """An SVG dash pattern; empty: solid."""


@dataclass(frozen=True)
class Mark:
    """One row of a forest plot: a mean with its interval; bounds that are NaN leave the interval out."""

    label: str
    mean: float
    low: float
    high: float
    colour: str = "#333333"
    note: str = ""
    """Stands behind the numbers."""


@dataclass(frozen=True)
class Block:
    """Rows under one heading."""

    title: str
    marks: Sequence[Mark] = field(default_factory=tuple)


def line_chart(title: str, x_title: str, lines: Sequence[Line]) -> Chart:
    """Curves with bands and a legend below. Raises `ValueError` without a finite point."""
    xs = [x for line in lines for x in line.x]
    ys = [y for line in lines for y in (*line.low, *line.high, *line.mean) if math.isfinite(y)]
    if not xs or not ys:
        raise ValueError(f"{title}: there is no finite point to draw")
    across, up = _Scale.of(xs, _LEFT, WIDTH - 20), _Scale.of(ys, _TOP + _PLOT_HEIGHT, _TOP)
    drawn = [
        {
            "line": line,
            "path": _path(zip(map(across, line.x), map(up, line.mean), strict=True)),
            "area": _path(_around(line, across, up)) + " Z",
        }
        for line in lines
    ]
    height = _TOP + _PLOT_HEIGHT + 58 + 18 * len(lines)
    return _chart("lines.svg.j2", title, height, across=across, up=up, drawn=drawn, x_title=x_title)


def forest_chart(title: str, x_title: str, blocks: Sequence[Block]) -> Chart:
    """Effects with intervals, in blocks, and a line at zero. Raises `ValueError` without a finite effect."""
    marks = [mark for block in blocks for mark in block.marks]
    ends = [x for mark in marks for x in (mark.low, mark.mean, mark.high) if math.isfinite(x)]
    if not ends:
        raise ValueError(f"{title}: there is no finite effect to draw")
    across = _Scale.of([0.0, *ends], _LABELS, WIDTH - _RIGHT)
    rows: list[dict[str, Any]] = []
    y = _TOP + 12
    for block in blocks:
        rows.append({"title": block.title, "y": y})
        y += _ROW
        for mark in block.marks:
            label = _wrapped(mark.label)
            rows.append({"mark": mark, "label": label, "y": y, **_ends(mark, across)})
            y += _ROW + _LINE * (len(label) - 1)
    return _chart("forest.svg.j2", title, y + 34, across=across, rows=rows, bottom=y, x_title=x_title)


def _wrapped(label: str) -> list[str]:
    """A label in as many lines as it needs beside the plot, at most three."""
    return textwrap.wrap(label, _LETTERS, max_lines=3, placeholder=" …") or [""]


def _ends(mark: Mark, across: _Scale) -> dict[str, Any]:
    """Where a row's mean and interval are; None for what does not exist."""
    points = (mark.mean, mark.low, mark.high)
    return dict(zip(("mean", "low", "high"), (across(x) if math.isfinite(x) else None for x in points), strict=True))


@dataclass(frozen=True)
class _Scale:
    """From values to pixels, with round numbers for the axis."""

    low: float
    high: float
    first: float
    last: float
    ticks: Sequence[float]

    @classmethod
    def of(cls, values: Iterable[float], first: float, last: float) -> _Scale:
        found = list(values)
        low, high = min(found), max(found)
        if high - low < 1e-12:
            low, high = low - 0.5, high + 0.5
        step = 10 ** math.floor(math.log10((high - low) / 4))
        step *= next(factor for factor in (1, 2, 2.5, 5, 10) if (high - low) / (step * factor) <= 6)
        start, stop = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
        ticks = [round(step * n, 12) for n in range(start, stop + 1)]
        return cls(ticks[0], ticks[-1], first, last, ticks)

    def __call__(self, value: float) -> float:
        return round(self.first + (value - self.low) / (self.high - self.low) * (self.last - self.first), 1)


def _around(line: Line, across: _Scale, up: _Scale) -> Iterable[tuple[float, float]]:
    there = [(across(x), up(y)) for x, y in zip(line.x, line.high, strict=True)]
    back = [(across(x), up(y)) for x, y in zip(line.x, line.low, strict=True)]
    return [*there, *back[::-1]]


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def _path(points: Iterable[tuple[float, float]]) -> str:
    return "M " + " L ".join(f"{x:g},{y:g}" for x, y in points)


def _chart(template: str, title: str, height: int, **values: Any) -> Chart:
    environment = escaping_environment(_TEMPLATES)
    environment.filters["text"] = lambda text, limit=70: visible(_cut(str(text).replace("\n", " "), limit), None)
    environment.filters["number"] = lambda x: f"{x:.6g}".replace("-", "\N{MINUS SIGN}")
    found = environment.get_template(template).render(title=title, width=WIDTH, height=height, **values)
    return Chart(title, Markup(found))
