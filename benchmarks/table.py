"""Shared by all benchmarks: rows, interleaved timing, the printed table and the JSON file."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import torch
from transformers.utils import logging

torch.set_num_threads(1)
logging.disable_progress_bar()
logging.set_verbosity_error()


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table."""

    name: str
    """What is measured."""
    ours: float
    """Our figure."""
    peer: float | None = None
    """The peer's figure."""
    unit: str = ""
    """Unit of both."""
    ratio: float | None = None
    """How many times better ours is: above 1, ours is faster or smaller."""
    target: str = ""
    """`<column> <comparison> <number>`, e.g. `ratio >= 2`; empty: no target."""

    @property
    def met(self) -> bool | None:
        """Is the target reached? None without a target."""
        if not self.target:
            return None
        column, comparison, number = self.target.split()
        value = {"ours": self.ours, "ratio": self.ratio}[column]
        if value is None:
            raise ValueError(f"row {self.name!r} has the target {self.target!r} but no {column}")
        return {"<": value < float(number), ">=": value >= float(number)}[comparison]


Benchmark = Callable[[bool], Iterable[Row]]
"""`quick` -> rows. Quick runs are for tests: they have tiny settings, and their numbers mean nothing."""


def interleaved(
    variants: Sequence[Callable[[], object]],
    repetitions: int,
    warm_up: int = 1,
    clock: Callable[[], float] = time.perf_counter,
) -> list[list[float]]:
    """Seconds per variant and repetition. The variants take turns, so that a busy moment of the machine hits all."""
    for _ in range(warm_up):
        for variant in variants:
            variant()
    seconds: list[list[float]] = [[] for _ in variants]
    for _ in range(repetitions):
        for taken, variant in zip(seconds, variants, strict=True):
            start = clock()
            variant()
            taken.append(clock() - start)
    return seconds


def throughput(
    name: str, unit: str, ours: Sequence[float], peer: Sequence[float], *, work: float, target: str = ""
) -> Row:
    """A row of rates (`work` per second) from paired seconds. The ratio is the median over the pairs."""
    ratio = median(p / o for o, p in zip(ours, peer, strict=True))
    return Row(name, work / median(ours), work / median(peer), unit, ratio, target)


def show(rows: Sequence[Row]) -> str:
    """The table as text."""
    met = {True: "met", False: "MISSED", None: ""}
    lines: list[tuple[str, ...]] = [("", "ours", "peer", "unit", "ratio", "target", "")]
    for row in rows:
        numbers = [_figure(row.ours), _figure(row.peer), row.unit, _figure(row.ratio, "x")]
        lines.append((row.name, *numbers, row.target, met[row.met]))
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    aligned = ("<", ">", ">", "<", ">", "<", "<")
    return "\n".join(
        "  ".join(f"{cell:{side}{width}}" for cell, side, width in zip(line, aligned, widths, strict=True)).rstrip()
        for line in lines
    )


def _figure(value: float | None, suffix: str = "") -> str:
    """Three significant digits."""
    if value is None:
        return "-"
    return (f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}") + suffix


def main(benchmark: Benchmark, arguments: Sequence[str] | None = None) -> None:
    """The command line of one benchmark."""
    parser = argparse.ArgumentParser(description=benchmark.__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the rows to FILE")
    parser.add_argument(
        "--quick", action="store_true", help="tiny settings, to see that it runs; the numbers mean nothing"
    )
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="threads of this process (default: one)")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    rows: list[Row] = []
    for row in benchmark(options.quick):
        rows.append(row)
        if options.json:  # after every row: some take an hour together
            options.json.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")
    print(show(rows))
