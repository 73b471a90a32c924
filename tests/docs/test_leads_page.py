"""The table of leads in docs/audits.md is that of the rows which are kept beside it."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def test_the_page_has_the_leads_of_the_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    render = importlib.import_module("docs.render_leads")
    page = render.PAGE.read_text(encoding="utf-8")
    assert render.rendered(page) == page, "write it again with `python -m docs.render_leads`"
