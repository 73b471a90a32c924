"""Heat maps of arms by contexts, one panel per world."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from launch.report.escaping import plot_text
from launch.report.figures import Figure, dress
from launch.report.table import Interval

Panel = tuple[str, Sequence[str], Sequence[tuple[str, Sequence[Interval]]], str]
"""Title, columns, rows (name, one interval per column), what the numbers are."""


def heat_map(key: str, title: str, caption: str, panels: Sequence[Panel]) -> Figure:
    """Panels below each other, on one scale from 0 to 1."""
    plot = make_subplots(
        rows=len(panels), cols=1, subplot_titles=[plot_text(panel[0]) for panel in panels],
        row_heights=[max(1, len(panel[2])) for panel in panels], vertical_spacing=0.3 / (len(panels) + 1),
    )  # fmt: skip
    for number, (_, columns, rows, what) in enumerate(panels, start=1):
        names = [plot_text(name) for name, _ in rows]
        means: list[list[Any]] = [[_json(cell.mean) for cell in cells] for _, cells in rows]
        plot.add_trace(
            go.Heatmap(
                x=list(columns), y=names, z=means, zmin=0, zmax=1, colorscale="Greys", showscale=number == 1,
                text=[["" if mean is None else f"{mean:.2f}" for mean in row] for row in means], texttemplate="%{text}",
                hovertemplate=f"<b>%{{y}}</b><br>%{{x}}: {plot_text(what)} %{{z:.3f}}<extra></extra>",
            ),
            row=number, col=1,
        )  # fmt: skip
        plot.update_yaxes(autorange="reversed", automargin=True, row=number, col=1)
    height = 120 + sum(90 + 34 * len(panel[2]) for panel in panels)
    dress(plot, height)
    plot.update_layout(margin={"t": 58})
    return Figure(key, title, caption, plot, height)


def _json(value: float) -> float | None:
    return value if math.isfinite(value) else None
