"""A comparison as lines of text and as CSV."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Sequence

from launch.compare.comparison import Comparison, Row
from launch.report.escaping import csv_cell, signed

GAP = "difference"
_COLUMNS = ("claim", "point", "metric", "contrast", "study", "verdict", "mean", "low", "high", "n", "level", "effect")
_GAPS = ("gap", "gap_low", "gap_high")


def lines_of(found: Comparison) -> Iterator[str]:
    """The table for a terminal: per claim the verdicts, per contrast one line for each study and each difference."""
    width = max(len(GAP), *(len(side.label) for side in found.sides)) + 2
    for side in found.sides:
        yield f"{side.label.ljust(width)}study {side.study.name}, {len(side.study.runs)} runs, digest {side.digest}"
    for each in found.shared:
        yield ""
        yield f"{each.title}: {each.statement}"
        yield "  " + "; ".join(f"{s.label}: {word}" for s, word in zip(found.sides, each.words, strict=True))
        yield from (f"  ! {remark}" for remark in each.remarks)
        yield from _rows(found, each.rows, width)
    if found.metrics:
        yield ""
        yield "arms of one name, each against its reference (95 % intervals)"
        yield from _rows(found, found.metrics, width)
    if found.apart:
        yield ""
        yield f"claims of one study alone: {'; '.join(found.apart)}"
    if found.differing:
        yield ""
        yield "what else differs:"
        yield from (f"  {line}" for line in found.differing)


def _rows(found: Comparison, rows: Sequence[Row], width: int) -> Iterator[str]:
    for row in rows:
        yield f"  {row.title}"
        for side, effect, gap in zip(found.sides, row.effects, row.gaps, strict=True):
            if effect is None:
                yield f"    {side.label.ljust(width)}–"
                continue
            told = signed(effect.mean, effect.low, effect.high, digits=2).ljust(24)
            yield f"    {side.label.ljust(width)}{told}n {effect.n}  {effect.word}".rstrip()
            if gap is not None:
                apart = "" if math.isnan(gap.low) else "  apart" if gap.apart else "  not apart"
                yield f"    {GAP.ljust(width)}{signed(gap.mean, gap.low, gap.high, digits=2).ljust(24)}{apart}".rstrip()


def as_csv(found: Comparison) -> str:
    """One line per claim, contrast and study; what does not exist is left empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*_COLUMNS, *_GAPS])
    for each in found.shared:
        for row in each.rows:
            _write(writer, found, row, each.claim, each.point, each.words)
    for row in found.metrics:
        _write(writer, found, row, "", "", [""] * len(found.sides))
    return text.getvalue()


def _write(writer: object, found: Comparison, row: Row, claim: str, point: str, words: Sequence[str]) -> None:
    for side, effect, gap, word in zip(found.sides, row.effects, row.gaps, words, strict=True):
        if effect is None:
            continue
        numbers = [effect.mean, effect.low, effect.high]
        apart = [gap.mean, gap.low, gap.high] if gap else [math.nan] * 3
        cells = [claim, point, row.metric, row.contrast, side.label, word, *map(_number, numbers)]
        cells += [effect.n, effect.level, effect.word, *map(_number, apart)]
        writer.writerow([csv_cell(cell) for cell in cells])  # type: ignore[attr-defined]


def _number(value: float) -> float | str:
    return value if math.isfinite(value) else ""
