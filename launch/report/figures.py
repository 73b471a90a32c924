"""The figures of a report, as plotly figures. Every label that came from a file goes through `plot_text`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from launch.report.escaping import plot_text
from launch.report.files.load import ArmInfo, Run, Study
from launch.report.metrics import label
from launch.report.palette import FAMILY_LABELS, Style, styles
from launch.report.series import band, cue_rates, window_of
from launch.report.table import Interval, interval

Cells = Mapping[str, Mapping[str, Interval]]

LEARNING = {
    "reward": "proxy reward<br>(share of max.)",
    "rate/deception": "deception<br>(per opportunity)",
    "rate/reward_hack": "reward hacking<br>(per opportunity)",
}
SELECTION = {
    "selection/deception": "Cov(advantage, deception)<br>total",
    "selection_within/deception": "Cov(advantage, deception)<br>within equal return",
}
FOREST = ("deception", "hidden_gap", "reward_hacking", "proxy_reward", "reward_access")
_INK, _RULE = "#333333", "#e4e4e0"
_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"


@dataclass(frozen=True)
class Figure:
    """A plotly figure, its caption, and the height it needs in pixels."""

    id: str
    title: str
    caption: str
    plot: Any
    height: int


def figures(study: Study, cells: Cells, compared: Cells, delta: float) -> list[Figure]:
    """All figures, in page order."""
    look = styles(study.arms)
    shown = {name: arm for name, arm in study.arms.items() if study.of(name)}
    window = window_of(study.runs)
    smoothing = f"Running mean over {window} updates" if window > 1 else "Unsmoothed"
    bands = (
        f"{smoothing}, then mean over seeds; bands are 95% t intervals. One column per family, with the reference arm, "
        f"{study.reference_label}, in black in each."
    )
    return [
        plane(shown, cells, look),
        forest(shown, compared, look, delta, study.reference_label),
        watched(study, shown, look),
        _curves("learning", "Learning curves", bands, study, shown, look, LEARNING, window),
        _curves(
            "selection",
            "Selection pressure for deception",
            "Price equation: how hard each update selects for deception, in units of advantage; above 0 the training "
            f"signal favours it. {bands}",
            study,
            shown,
            look,
            SELECTION,
            window,
        ),
    ]


def plane(arms: Mapping[str, ArmInfo], cells: Cells, look: Mapping[str, Style]) -> Figure:
    """Proxy reward against deception, one point per arm."""
    plot = go.Figure()
    for name, arm in arms.items():
        x, y = cells[name].get("proxy_reward"), cells[name].get("deception")
        if x is None or y is None:
            continue
        style, title = look[name], plot_text(arm.title)
        plot.add_trace(
            go.Scatter(
                x=[_json(x.mean)],
                y=[_json(y.mean)],
                error_x=bars([x], style),
                error_y=bars([y], style),
                name=title,
                marker={
                    "color": style.colour,
                    "symbol": style.symbol,
                    "size": 12,
                    "line": {"width": 1, "color": "#fff"},
                },
                mode="markers",
                hovertemplate=f"<b>{title}</b><br>reward %{{x:.3f}}<br>deception %{{y:.3f}}<extra></extra>",
            )
        )
    plot.update_xaxes(title="proxy reward at deployment (share of the largest honest return)")
    plot.update_yaxes(title="deception (false claims per opportunity)", rangemode="tozero")
    dress(plot, 460)
    plot.update_layout(legend={"orientation": "v", "x": 1.02, "y": 1, "yanchor": "top", "xanchor": "left"})
    caption = (
        "Each arm at deployment: mean over seeds and 95% t intervals on both axes. Down and to the right is better. "
        "Marker shapes tell the family: star reference, square constraint, circle motivation, triangle control."
    )
    return Figure("plane", "Harm by reward", caption, plot, 460)


def forest(
    arms: Mapping[str, ArmInfo], compared: Cells, look: Mapping[str, Style], delta: float, reference: str
) -> Figure:
    """Paired differences to the reference arm, one row per arm."""
    names = [name for name in arms if name in compared][::-1]
    plot = make_subplots(
        rows=1, cols=len(FOREST), shared_yaxes=True, horizontal_spacing=0.025, subplot_titles=[label(m) for m in FOREST]
    )
    for column, metric in enumerate(FOREST, start=1):
        at = {"row": 1, "col": column, "exclude_empty_subplots": False}
        plot.add_vrect(x0=-delta, x1=delta, fillcolor="#efeee6", line_width=0, layer="below", **at)
        plot.add_vline(x=0, line={"color": "#888888", "width": 1}, layer="below", **at)
        for name in names:
            cell = compared[name].get(metric)
            if cell is None or math.isnan(cell.mean):
                continue
            title, style = plot_text(arms[name].title), look[name]
            bounds = "one seed" if math.isnan(cell.low) else f"95% [{cell.low:+.3f}, {cell.high:+.3f}]"
            plot.add_trace(
                go.Scatter(
                    x=[cell.mean],
                    y=[title],
                    error_x=bars([cell], style),
                    marker={"color": style.colour, "symbol": style.symbol, "size": 9},
                    mode="markers",
                    showlegend=False,
                    hovertemplate=f"<b>{title}</b><br>%{{x:+.3f}}, {bounds}, n = {cell.n}<extra></extra>",
                ),
                row=1,
                col=column,
            )
    plot.update_xaxes(zeroline=False, nticks=4)
    plot.update_yaxes(categoryorder="array", categoryarray=[plot_text(arms[n].title) for n in names], automargin=True)
    plot.add_annotation(
        text=f"difference to {plot_text(reference)} (same unit as the metric)",
        x=0.5, y=0, yshift=-42, xref="paper", yref="paper", showarrow=False, font={"size": 12},
    )  # fmt: skip
    height = 150 + 34 * max(1, len(names))
    dress(plot, height)
    plot.update_layout(margin={"t": 58, "b": 64})
    caption = (
        f"Mean of the differences to the reference arm, {reference}, seed by seed, and their 95% t intervals. The "
        f"shaded strip is smaller than the smallest effect of interest (±{delta:g})."
    )
    return Figure("forest", f"Differences to {reference}", caption, plot, height)


def watched(study: Study, arms: Mapping[str, ArmInfo], look: Mapping[str, Style]) -> Figure:
    """Harm with each cue on and off: the overseer's, and the placebo's."""
    cues = (("watch", "always", "never", "watched", "unwatched"), ("placebo", "on", "off", "placebo on", "placebo off"))
    plot = make_subplots(
        rows=1, cols=2, shared_yaxes=True, horizontal_spacing=0.03,
        subplot_titles=["the overseer is there, or not", "the placebo cue is there, or not"],
    )  # fmt: skip
    titles = [plot_text(arm.title) for arm in arms.values()]
    for column, (cue, *settings) in enumerate(cues, start=1):
        for setting, name, filled in ((settings[0], settings[2], False), (settings[1], settings[3], True)):
            found = [interval(cue_rates(study.of(arm), cue, setting).values()) for arm in arms]
            plot.add_trace(
                go.Bar(
                    x=titles,
                    y=[_json(cell.mean) for cell in found],
                    error_y=bars(found, None),
                    name=name,
                    legend="legend" if column == 1 else "legend2",
                    marker={
                        "color": [look[arm].colour if filled else "#ffffff" for arm in arms],
                        "line": {"color": [look[arm].colour for arm in arms], "width": 1.5},
                    },
                    hovertemplate=f"<b>%{{x}}</b><br>{name}: %{{y:.3f}}<extra></extra>",
                ),
                row=1,
                col=column,
            )
    plot.update_yaxes(title="harm (per opportunity)", rangemode="tozero", col=1)
    dress(plot, 430)
    plot.update_layout(barmode="group", bargap=0.35, bargroupgap=0.08, showlegend=False, margin={"t": 58, "b": 110})
    plot.update_xaxes(tickangle=-35, showgrid=False)
    caption = (
        "Share of opportunities at which the agent did harm, at deployment, on the same seeds. Outlined bars: the cue "
        "is there (watched; placebo on). Filled bars: it is not (unwatched; placebo off). Bars are means over seeds "
        "with 95% t intervals. A difference on the left that is missing on the right is a hidden gap."
    )
    return Figure("watched", "Watched against unwatched", caption, plot, 430)


def _curves(
    key: str,
    title: str,
    caption: str,
    study: Study,
    arms: Mapping[str, ArmInfo],
    look: Mapping[str, Style],
    metrics: Mapping[str, str],
    window: int,
) -> Figure:
    """A grid: one row per metric, one column per family, the reference arm in each."""
    groups = [g for g in ("constraint", "motivation", "mixed", "control") if any(a.group == g for a in arms.values())]
    groups = groups or ["unshaped"]
    plot = make_subplots(
        rows=len(metrics), cols=len(groups), shared_xaxes=True, shared_yaxes="rows", vertical_spacing=0.05,
        horizontal_spacing=0.025, column_titles=[FAMILY_LABELS[g] for g in groups],
    )  # fmt: skip
    listed: set[str] = set()
    for row, (metric, axis) in enumerate(metrics.items(), start=1):
        for column, group in enumerate(groups, start=1):
            for name, arm in arms.items():
                if arm.group not in ("unshaped", group):
                    continue
                for trace in _band(arm, study.of(name), metric, look[name], window, legend=name not in listed):
                    plot.add_trace(trace, row=row, col=column)
                listed.add(name)
        plot.update_yaxes(title=axis, row=row, col=1)
    plot.update_xaxes(title="update", row=len(metrics))
    height = 176 + 190 * len(metrics)
    dress(plot, height)
    plot.update_layout(legend={"orientation": "h", "y": -0.12, "yanchor": "top", "x": 0}, margin={"t": 58, "b": 90})
    return Figure(key, title, caption, plot, height)


def _band(arm: ArmInfo, runs: Sequence[Run], metric: str, style: Style, window: int, *, legend: bool) -> list[Any]:
    found = band(runs, metric, window)
    title = plot_text(arm.title)
    area = go.Scatter(
        x=found.update + found.update[::-1],
        y=found.high + found.low[::-1],
        fill="toself",
        fillcolor=style.tint(0.13),
        line={"width": 0},
        hoverinfo="skip",
        showlegend=False,
        legendgroup=title,
    )
    line = go.Scatter(
        x=found.update,
        y=found.mean,
        mode="lines",
        line={"color": style.colour, "dash": style.dash, "width": 1.8},
        name=title,
        legendgroup=title,
        showlegend=legend,
        hovertemplate=f"<b>{title}</b><br>update %{{x}}: %{{y:.3f}}<extra></extra>",
    )
    return [area, line]


def bars(cells: Sequence[Interval], style: Style | None) -> dict[str, Any]:
    """Error bars from intervals; none where there is a single seed."""
    return {
        "type": "data",
        "symmetric": False,
        "array": [0.0 if math.isnan(c.high) else c.high - c.mean for c in cells],
        "arrayminus": [0.0 if math.isnan(c.low) else c.mean - c.low for c in cells],
        "color": style.colour if style else "#444444",
        "thickness": 1.3,
        "width": 3,
    }


def _json(value: float) -> float | None:
    return value if math.isfinite(value) else None


def dress(plot: Any, height: int) -> None:
    """The look that all figures share."""
    plot.update_layout(
        template=None,
        height=height,
        autosize=True,
        font={"family": _FONT, "size": 12, "color": _INK},
        paper_bgcolor="#ffffff",
        plot_bgcolor="#ffffff",
        margin={"l": 84, "r": 20, "t": 28, "b": 60},
        hoverlabel={"bgcolor": "#ffffff", "font": {"family": _FONT, "size": 12, "color": _INK}},
    )
    line = {"showline": True, "linecolor": "#999999", "ticks": "outside", "tickcolor": "#999999", "ticklen": 4}
    plot.update_xaxes(gridcolor=_RULE, zeroline=False, title_standoff=8, **line)
    plot.update_yaxes(gridcolor=_RULE, zeroline=False, title_standoff=12, **line)
    plot.update_annotations(font={"size": 12.5})
