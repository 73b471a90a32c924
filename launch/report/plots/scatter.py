"""Scatter plots with intervals on both axes, one panel per world."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from launch.report.escaping import plot_text
from launch.report.figures import Figure, bars, dress
from launch.report.palette import Style
from launch.report.table import Interval


@dataclass(frozen=True)
class Point:
    """One arm."""

    title: str
    style: Style
    x: Interval
    y: Interval


LEGEND_COLUMNS, LEGEND_LINE = 2, 22
"""Arms per line of a legend at the least, and pixels of a line."""


@dataclass(frozen=True)
class Panel:
    """One world, with what its axes are."""

    title: str
    x: str
    y: str
    points: Sequence[Point]


def scatter(key: str, title: str, caption: str, panels: Sequence[Panel]) -> Figure:
    """Panels beside each other, at most two in a row; an arm has one colour and marker in all of them."""
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    plot = make_subplots(
        rows=rows, cols=columns, subplot_titles=[plot_text(panel.title) for panel in panels],
        horizontal_spacing=0.12, vertical_spacing=0.36 / max(rows, 2),
    )  # fmt: skip
    listed: set[str] = set()
    for number, panel in enumerate(panels):
        row, column = number // columns + 1, number % columns + 1
        for point in panel.points:
            plot.add_trace(_trace(point, legend=point.title not in listed), row=row, col=column)
            listed.add(point.title)
        plot.update_xaxes(title=plot_text(panel.x), row=row, col=column)
        plot.update_yaxes(title=plot_text(panel.y), row=row, col=column)
    below = LEGEND_LINE * -(-len(listed) // LEGEND_COLUMNS)  # room for it, whatever the number of arms
    height = 90 + 340 * rows + below
    dress(plot, height)
    legend = {
        "orientation": "h",
        "yref": "container",
        "y": 0,
        "yanchor": "bottom",
        "x": 0,
        "maxheight": below + LEGEND_LINE,
    }
    plot.update_layout(margin={"t": 58, "b": 60 + below}, legend=legend)
    return Figure(key, title, caption, plot, height)


def _trace(point: Point, *, legend: bool) -> go.Scatter:
    title = plot_text(point.title)
    return go.Scatter(
        x=[_json(point.x.mean)],
        y=[_json(point.y.mean)],
        error_x=bars([point.x], point.style),
        error_y=bars([point.y], point.style),
        name=title,
        legendgroup=title,
        showlegend=legend,
        marker={"color": point.style.colour, "symbol": point.style.symbol, "size": 11},
        mode="markers",
        hovertemplate=f"<b>{title}</b><br>%{{x:.3f}}, %{{y:.3f}}<extra></extra>",
    )


def _json(value: float) -> float | None:
    return value if math.isfinite(value) else None
