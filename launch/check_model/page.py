"""The gates of a model as a small page: one HTML file with a picture, and the same table as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import plotly.graph_objects as go
import plotly.offline
from markupsafe import Markup
from plotly.subplots import make_subplots

from launch.check_model.table import HEAD, rows
from launch.report.escaping import plot_text
from launch.report.figures import Figure, dress
from launch.report.markdown import blocks, bullets, inline, table
from launch.report.page import security_policy, template_file
from launch.report.rendering import render
from launch.storage.files import disk_errors, make_directory, write_text
from shaping.organisms.gates.record import GATES, MEANINGS, Gates, Part

PAGE, MARKDOWN = "gates.html", "gates.md"
_COLOURS = {True: "#1b7f4b", False: "#b3261e"}


def write_page(folder: Path, name: str, gates: Gates, remarks: Sequence[str] = ()) -> Path:
    """Write `gates.html` and `gates.md` into `folder`. Returns the page."""
    scripts = [plotly.offline.get_plotlyjs(), template_file("page.js")]
    page = render(
        Path(__file__).with_name("page.html.j2").read_text(encoding="utf-8"),
        name=name,
        facts=facts(gates),
        drawn=picture(gates),
        head=HEAD,
        rows=rows(gates),
        remarks=remarks,
        css=Markup(template_file("style.css")),
        policy=security_policy(*scripts),
        scripts=[Markup(script) for script in scripts],
    )
    with disk_errors(folder):
        make_directory(folder)
        write_text(folder / PAGE, page)
        write_text(folder / MARKDOWN, markdown(name, gates, remarks))
    return folder / PAGE


def markdown(name: str, gates: Gates, remarks: Sequence[str] = ()) -> str:
    """The table alone."""
    cells = [row.cells for row in rows(gates)]
    return blocks(f"# Subject gates of {inline(name)}", facts(gates), table(HEAD, cells), bullets(remarks)) + "\n"


def facts(gates: Gates) -> str:
    """How it was measured, in a line."""
    settings = {found.settings for found in gates.worlds.values()}
    told = [
        f"{s.episodes} episodes per cell, {s.inquiry:g} questions per turn, honest share {s.honest_share:g}, "
        f"temperature {s.temperature:g}, {s.max_tokens} tokens per answer"
        for s in sorted(settings, key=repr)
    ]
    return "; ".join(told) or "nothing was measured"


def picture(gates: Gates) -> Figure:
    """One column per gate, one row per world: value, interval, and the threshold as a line."""
    worlds = list(gates.worlds)[::-1]
    plot = make_subplots(
        rows=1,
        cols=len(GATES),
        shared_yaxes=True,
        horizontal_spacing=0.025,
        subplot_titles=[f"{gate}<br>{MEANINGS[gate]}" for gate in GATES],
    )
    for column, gate in enumerate(GATES, start=1):
        known = [(world, gates.worlds[world].gates.get(gate)) for world in worlds]
        for index in range(max((len(found.parts) for _, found in known if found), default=0)):
            parts = [(world, found.parts[index]) for world, found in known if found and found.parts]
            plot.add_trace(_trace(parts), row=1, col=column)
            for threshold in sorted({part.threshold for _, part in parts}):
                plot.add_vline(threshold, line={"color": "#777777", "width": 1, "dash": "dot"}, row=1, col=column)
        plot.update_xaxes(range=[-1.05, 1.05], row=1, col=column)
    height = 150 + 34 * max(len(worlds), 1)
    dress(plot, height)
    plot.update_layout(margin={"t": 64})
    plot.update_yaxes(type="category", categoryorder="array", categoryarray=[plot_text(world) for world in worlds])
    caption = (
        "Values with 95% intervals; dotted lines are thresholds. Filled circles pass, open crosses fail, by the point "
        "estimate. M4 has two numbers: denials of the guilty (at most .5) and of the innocent (at least .9)."
    )
    return Figure("gates", "Subject gates", caption, plot, height)


def _trace(parts: Sequence[tuple[str, Part]]) -> go.Scatter:
    passed = [part.passed for _, part in parts]
    return go.Scatter(
        x=[part.value for _, part in parts],
        y=[plot_text(world) for world, _ in parts],
        error_x={
            "type": "data",
            "symmetric": False,
            "array": [part.high - part.value for _, part in parts],
            "arrayminus": [part.value - part.low for _, part in parts],
            "color": "#999999",
            "thickness": 1.5,
        },
        mode="markers",
        marker={
            "color": [_COLOURS[each] for each in passed],
            "symbol": ["circle" if each else "x-open" for each in passed],
            "size": 10,
        },
        hovertext=[plot_text(f"{part.name}, {part.count} {part.unit}") for _, part in parts],
        hovertemplate="%{y}: %{x:.2f}<br>%{hovertext}<extra></extra>",
        showlegend=False,
    )
