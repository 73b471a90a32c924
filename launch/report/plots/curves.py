"""Lines of single runs over a common axis, one panel per quantity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from launch.report.escaping import plot_text
from launch.report.figures import Figure, dress
from launch.report.palette import Style


@dataclass(frozen=True)
class Curve:
    """One run in one panel; `x` and `y` are finite numbers, one per point."""

    title: str
    style: Style
    panel: int
    x: Sequence[float]
    y: Sequence[float]


def curves(key: str, title: str, caption: str, panels: Sequence[str], axis: str, drawn: Sequence[Curve]) -> Figure:
    """Panels beside each other; all runs of an arm have one colour, and the legend lists it once."""
    plot = make_subplots(rows=1, cols=len(panels), horizontal_spacing=0.12)
    listed: set[str] = set()
    for curve in drawn:
        name = plot_text(curve.title)
        plot.add_trace(
            go.Scatter(
                x=list(curve.x),
                y=list(curve.y),
                mode="lines+markers",
                line={"color": curve.style.colour, "dash": curve.style.dash, "width": 1.2},
                marker={"color": curve.style.colour, "symbol": curve.style.symbol, "size": 5},
                name=name,
                legendgroup=name,
                showlegend=name not in listed,
                hovertemplate=f"<b>{name}</b><br>%{{x:.3f}}, %{{y:.3f}}<extra></extra>",
            ),
            row=1,
            col=curve.panel + 1,
        )
        listed.add(name)
    for number, label in enumerate(panels, start=1):
        plot.update_xaxes(title=plot_text(axis), row=1, col=number)
        plot.update_yaxes(title=plot_text(label), row=1, col=number)
    height = 430
    dress(plot, height)
    legend = {"orientation": "h", "y": -0.2, "yanchor": "top", "x": 0}
    plot.update_layout(margin={"t": 28, "b": 100}, legend=legend)
    return Figure(key, title, caption, plot, height)
