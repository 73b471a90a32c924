"""The page on metrics says what the records of the registry say."""

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


def test_what_the_page_says_is_what_the_registry_says(render: ModuleType) -> None:
    """A metric that was added since may be missing: it is one new file, and the page is written again at leisure."""
    text = PAGE.read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    outdated = sorted(set(rows) - set(render.rendered(text).splitlines()))
    assert len(rows) > 50 and not outdated, "write it again with `python -m docs.render_metrics`"


def test_the_written_page_has_every_metric_once_and_mends_a_changed_definition(render: ModuleType) -> None:
    text = PAGE.read_text(encoding="utf-8")
    written = render.rendered(text)
    assert [metric.name for metric in all_metrics() if f"| `{metric.name}` |" not in written] == []
    other = text.replace("harmful acts / opportunities", "something else")
    assert other != text and render.rendered(other) == written


def test_the_example_for_finished_runs_is_code_that_imports() -> None:
    example = re.findall("```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)[0]
    exec(compile(example.split("\n\n")[0], "docs/metrics.md", "exec"), {})
