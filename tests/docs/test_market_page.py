"""The page on the market says what the code does."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

from envs.worlds.market import POLICIES, MarketOptions

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "worlds" / "market.md"


def test_its_options_are_those_of_the_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    render = importlib.import_module("docs.worlds.render")
    found = re.search(r"<!-- options -->\n(.*?)\n<!-- /options -->", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    table = render.options_table(MarketOptions, inherited=True)
    assert found and found[1] == table, f"write this into docs/worlds/market.md:\n{table}"


def test_it_lists_the_scripted_policies_and_the_index_names_it() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert all(f"| `{policy}` |" in text for policy in POLICIES)
    assert "worlds/market.md" in (ROOT / "docs" / "worlds.md").read_text(encoding="utf-8")
