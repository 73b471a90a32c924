"""The page on reports tells the sections in their order."""

from __future__ import annotations

import re
from pathlib import Path

from launch.config.plugins import SECTION, builtins

PAGE = Path(__file__).resolve().parents[2] / "docs" / "report.md"


def test_the_sections_that_the_page_lists_are_there_in_the_order_of_the_report() -> None:
    named = re.findall(r"^\| `([A-Z]\w+)` \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    found = sorted(builtins(SECTION).items(), key=lambda item: item[1].position)
    assert len(named) > 5 and named == [name for name, _ in found if name in named]
