"""A comparison as one static page with a forest plot, without any script."""

from __future__ import annotations

import math
from pathlib import Path

from markupsafe import Markup

from launch.analysis.charts import Block, Chart, Mark, forest_chart
from launch.compare.comparison import Comparison, Row
from launch.compare.text import as_csv, lines_of
from launch.report.escaping import json_text, signed
from launch.report.page import security_policy, template_file
from launch.report.rendering import render
from launch.storage.files import disk_errors, make_directory, write_text

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#222222", "#882255", "#44aa99", "#999933")
"""Okabe and Ito's first: one per study, in turn."""


def forest(found: Comparison) -> Chart | None:
    """Every shared contrast with one row per study; None without a finite effect."""
    blocks = [Block(f"{each.title}: {row.title}", _marks(found, row)) for each in found.shared for row in each.rows] + [
        Block(row.title, _marks(found, row)) for row in found.metrics
    ]
    blocks = [block for block in blocks if block.marks]
    if not blocks:
        return None
    title = f"Effects in {', '.join(side.label for side in found.sides)}"
    return forest_chart(title, "difference (unit of the metric), with its interval", blocks)


def _marks(found: Comparison, row: Row) -> list[Mark]:
    return [
        Mark(
            side.label,
            effect.mean,
            effect.low,
            effect.high,
            COLOURS[number % len(COLOURS)],
            signed(effect.mean, effect.low, effect.high, digits=2),
        )
        for number, (side, effect) in enumerate(zip(found.sides, row.effects, strict=True))
        if effect is not None and math.isfinite(effect.mean)
    ]


def html_page(found: Comparison) -> str:
    """The complete document; it asks the network for nothing and runs nothing."""
    chart = forest(found)
    page = render(
        Path(__file__).with_name("page.html.j2").read_text(encoding="utf-8"),
        found=found,
        chart=chart.svg if chart else "",
        css=Markup(template_file("style.css")),
        policy=security_policy().replace("script-src ", "script-src 'none'"),
        zip=zip,
    )
    return str(page)


def write(found: Comparison, folder: Path) -> Path:
    """Write index.html, comparison.csv, comparison.json, comparison.txt and forest.svg. Returns the page's path."""
    from launch.compare.comparison import as_json

    chart = forest(found)
    with disk_errors(folder):
        make_directory(folder)
        write_text(folder / "index.html", html_page(found))
        write_text(folder / "comparison.csv", as_csv(found))
        write_text(folder / "comparison.json", json_text(as_json(found), indent=1) + "\n")
        write_text(folder / "comparison.txt", "\n".join(lines_of(found)) + "\n")
    if chart is not None:
        chart.save(folder / "forest.svg")
    return folder / "index.html"
