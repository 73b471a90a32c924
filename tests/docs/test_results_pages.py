"""The tables in README.md and docs/results/README.md are those of the committed results."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def render() -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT))
        return importlib.import_module("docs.render_results")


def test_the_pages_have_the_numbers_of_the_results(render: ModuleType) -> None:
    for page in render.PAGES:
        text = page.read_text(encoding="utf-8")
        assert render.rendered(text) == text, f"{page.name}: write it again with `python -m docs.render_results`"
        assert render.MARK.search(text), f"{page.name} has no table of results"


def test_a_registered_study_with_results_has_rows_of_the_registered_digest(render: ModuleType) -> None:
    for folder in (ROOT / "docs" / "results").iterdir():
        if (folder / "verdicts.json").is_file():
            assert (folder / "preregistration.md").is_file() and (folder / "rows" / "study.json").is_file(), folder.name
