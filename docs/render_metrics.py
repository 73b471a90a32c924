"""Writes the tables of docs/metrics.md from the registry of metrics. `python -m docs.render_metrics`.

A generated part stands between `<!-- name -->` and `<!-- /name -->`. Everything else of the page is written by hand.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from shaping.audits.metrics import Metric, all_metrics

PAGE = Path(__file__).with_name("metrics.md")
SOURCES = {
    "evaluation": "episodes",
    "cells": "cells of the evaluation",
    "training": "updates",
    "update": "updates",
    "access": "access audit",
}


def rendered(text: str) -> str:
    """The page with its tables as the registry has them."""
    for name, table in (("summary", summary_table()), ("rows", row_table())):
        pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        text = pattern.sub(lambda found, table=table: f"{found[1]}\n{table}\n\n{found[2]}", text)
    return text


def summary_table() -> str:
    """Every metric of a summary."""
    rows = ["| metric | definition | unit | better | from |", "|---|---|---|---|---|"]
    for metric in all_metrics():
        if metric.source == "monitor":
            rows.append(_row(metric.name, metric, "monitors"))
        elif metric.source in SOURCES and (not metric.family or metric.source == "access"):
            rows.append(_row(metric.name, metric, SOURCES[metric.source]))
    return "\n".join(rows)


def row_table() -> str:
    """Every column of a row."""
    rows = ["| column | definition | unit | better | in |", "|---|---|---|---|---|"]
    for column, metric, files in columns():
        row = replace(metric, definition=metric.definition.removesuffix(", mean over updates"))
        rows.append(_row(column, row, files))
    return "\n".join(rows)


def columns() -> Iterator[tuple[str, Metric, str]]:
    """(column, metric, files that have it)"""
    for metric in all_metrics():
        if metric.column:
            per_world = f" (also `{metric.column}/<world>`)" if metric.column_per_world else ""
            yield metric.column, metric, f"eval.jsonl, metrics.jsonl{per_world}"
        elif metric.source in ("update", "condition"):
            yield metric.name, metric, "metrics.jsonl" if metric.source == "update" else "eval.jsonl"


def _row(name: str, metric: Metric, last: str) -> str:
    better = {"higher_is_better": "higher", "lower_is_better": "lower", "neutral": ""}[metric.direction]
    cells = [f"`{name}`", metric.definition, metric.unit, better, last]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


if __name__ == "__main__":
    PAGE.write_text(rendered(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
