"""Audits of stored episodes as lines of a terminal and as files."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, fields
from pathlib import Path

from launch.errors import UserError
from launch.report.escaping import csv_cell, plain
from launch.report.markdown import table
from launch.storage.files import write_text
from shaping.audits.logs import Audit, Audited

HEAD = ("cell", "world", "metric", "value [95 %]", "episodes", "unit")
ALL = "mean over worlds"


def parquet_files(given: Sequence[Path]) -> list[Path]:
    """The files, and those in the folders and below them. Raises `UserError` if there is none."""
    found: list[Path] = []
    for path in given:
        if not path.exists():
            raise UserError(f"{path}: no such file or folder; give the episode files, or a folder that holds them")
        found += sorted(path.rglob("*.parquet")) if path.is_dir() else [path]
    if not found:
        raise UserError(f"no *.parquet in {', '.join(map(str, given))}; give the episode files themselves")
    return list(dict.fromkeys(found))


def lines(audit: Audit, *, by_world: bool) -> Iterator[str]:
    """A table, then what could not be computed."""
    several = len({row.world for row in audit.rows if row.world}) > 1
    shown = [row for row in audit.rows if by_world or not row.world]
    whole = ALL if several else ""
    cells = [(r.cell, r.world or whole, r.metric, _value(r), f"{r.episodes:,}", r.unit) for r in shown]
    yield from table(HEAD, cells).splitlines()
    yield from (f"not computed: {what}" for what in audit.left_out)


def export(audit: Audit, path: Path) -> None:
    """Write all numbers, also those by world."""
    rows = [{key: _known(value) for key, value in asdict(row).items()} for row in audit.rows]
    if path.suffix == ".json":
        write_text(path, json.dumps({"audits": rows, "not_computed": list(audit.left_out)}, indent=1) + "\n")
        return
    text = io.StringIO()
    writer = csv.DictWriter(text, [f.name for f in fields(Audited)], lineterminator="\n")
    writer.writeheader()
    texts = ("cell", "world", "metric", "unit")
    writer.writerows({**row, **{name: csv_cell(str(row[name])) for name in texts}} for row in rows)
    write_text(path, text.getvalue())


def _known(value: object) -> object:
    return None if isinstance(value, float) and math.isnan(value) else value


def _value(row: Audited) -> str:
    digits = 4 if row.metric.startswith("selection") else 3
    return plain(row.value, row.low, row.high, digits)
