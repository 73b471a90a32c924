"""The page on metrics has every record of the registry, as it is."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from types import ModuleType

import pytest

from shaping.audits.metrics import all_metrics

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "metrics.md"


@pytest.fixture(scope="module")
def render() -> ModuleType:
    """The module that writes the page; `docs` is not installed, so it is found from the root."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT))
        return importlib.import_module("docs.render_metrics")


def test_the_page_says_what_the_registry_says(render: ModuleType) -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert text == render.rendered(text), "write it again with `python -m docs.render_metrics`"
    missing = [metric.name for metric in all_metrics() if f"| `{metric.name}` |" not in text]
    assert not missing


def test_a_changed_definition_changes_the_page(render: ModuleType) -> None:
    text = PAGE.read_text(encoding="utf-8")
    other = text.replace("harmful acts / opportunities", "something else")
    assert other != text and render.rendered(other) == text


def test_the_example_for_finished_runs_is_code_that_imports() -> None:
    example = re.findall("```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)[0]
    exec(compile(example.split("\n\n")[0], "docs/metrics.md", "exec"), {})
