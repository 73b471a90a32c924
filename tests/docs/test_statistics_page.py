"""The page of simulated studies has the tables that its command prints."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest

from launch.report.statistics.simulate import NULLS, POWERS, SEQUENTIAL, SIZES, document

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "statistics.md").read_text(encoding="utf-8")
DRAWS = 20_000


def rows(heading: str) -> list[list[str]]:
    """The cells of the table below a heading, without its head."""
    (section,) = re.findall(rf"^## {heading}\n(.*?)(?=^## |\Z)", TEXT, re.MULTILINE | re.DOTALL)
    lines = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("| ")]
    return lines[2:]


def test_it_has_every_case_and_none_errs_more_than_it_may() -> None:
    found = rows("Errors")
    assert [tuple(row[:2]) for row in found] == [(case.claim, case.drift) for case in NULLS]
    limit = 0.05 + 2 * math.sqrt(0.05 * 0.95 / DRAWS)
    shares = [float(cell) for row in found for cell in row[2:]]
    assert len(shares) == len(NULLS) * len(SIZES)
    assert sum(share > limit for share in shares) <= 0.1 * len(shares)
    assert max(shares) < 0.05 + 4 * math.sqrt(0.05 * 0.95 / DRAWS)


def test_printed_power_is_within_five_points_of_what_was_found() -> None:
    found = rows("Power")
    assert {row[0] for row in found} == {claim for claim, *_ in POWERS}
    for cell in (cell for row in found for cell in row[2:]):
        printed, happened = map(float, cell.split(" / "))
        assert abs(printed - happened) <= 0.05


def test_it_has_the_looks() -> None:
    assert [tuple(row[:2]) for row in rows("Several looks")] == [(claim, case) for claim, case, *_ in SEQUENTIAL]


@pytest.mark.slow
def test_its_tables_are_what_the_command_prints() -> None:
    for table in document(DRAWS).split("\n\n"):
        assert table in TEXT
