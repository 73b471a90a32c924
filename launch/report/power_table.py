"""What a study can decide: for each claim the replicates that it needs, from a pilot's runs or from what it assumes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from launch.config.claims import build_claims
from launch.config.reading.paths import expanded
from launch.config.seeds import LEAST
from launch.config.study import StudyConfig
from launch.report.build import DELTA
from launch.report.claims.base import Claim, asked
from launch.report.claims.evidence import Evidence
from launch.report.claims.judge import tables
from launch.report.claims.power import assumed_power, powers
from launch.report.claims.table import Table
from launch.report.files.load import Study, StudyDirectoryError, load
from launch.report.metrics import label
from launch.report.statistics.power import MOST, TARGET, Power
from launch.report.table import values_of

HEAD = ("claim", "contrast", "metric", "SD", "n", "power", f"n for {TARGET:.0%}")


@dataclass(frozen=True)
class PowerRow:
    """One deciding contrast of a claim at one point of the axes."""

    claim: str
    point: str
    contrast: str
    metric: str
    power: Power

    @property
    def cells(self) -> tuple[str, ...]:
        """As `HEAD` names them."""
        name = f"{self.claim} [{self.point}]" if self.point else self.claim
        needed = f"> {MOST}" if self.power.needed is None else str(self.power.needed)
        return (
            name, self.contrast, label(self.metric), f"{self.power.sd:.3f}", str(self.power.n),
            f"{self.power.power:.2f}", needed,
        )  # fmt: skip


def power_rows(config: StudyConfig, pilot: Study | None, margin: float) -> Iterator[PowerRow]:
    """A row for what each claim assumes, and for every contrast that the pilot has runs of; n is the study's own."""
    n = len(config.seed_list)
    for claim in build_claims(config):
        blank = Table({}, [], margin, evidence=Evidence())
        tests = max(len(claim.treatment.arms), 1) * len(claim.metrics)
        if (assumed := assumed_power(claim, blank, tests, n)) is not None:
            yield from (PowerRow(claim.id, "", "assumed", metric, assumed) for metric in claim.metrics)
        if pilot is not None:
            yield from _of_pilot(claim, pilot, n, margin)


def _of_pilot(claim: Claim, pilot: Study, n: int, margin: float) -> Iterator[PowerRow]:
    for table in tables(pilot, values_of(pilot), margin, claim.axes):
        if not asked(claim, "lacks", str, table):
            for compared, power in powers(claim, table, n):
                yield PowerRow(claim.id, table.point, compared.name, compared.metric, replace(power, n=n))


def read_pilot(config: StudyConfig, directories: Sequence[Path]) -> Study | None:
    """The study in these directories; without any the config's own, if it has finished runs."""
    if directories:
        return load(*directories)
    own = expanded(config.output) / config.name
    try:
        return load(own)
    except StudyDirectoryError:
        return None


def table_of(config: StudyConfig, pilot: Study | None, margin: float = DELTA) -> list[str]:
    """The rows as lines of text."""
    rows = [HEAD, *(row.cells for row in power_rows(config, pilot, margin))]
    if len(rows) == 1:
        return [
            "nothing to compute a power from: give a pilot's directory (--pilot), or write `assumes: {sd: ...}` "
            "below a claim"
        ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    found = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return [*found, f"power at the margin; fewer than {LEAST} replicates are never judged"]
