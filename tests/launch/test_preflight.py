"""What runs need late is built early: by a dry run as by the study."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from entry_points import EntryPoint
from launch_fakes import START_MODEL, TRAINER, study

from launch.config.plugins import SECTION, PluginError
from launch.preflight import check_study
from launch.study import run_study
from shaping.audits.metrics import GROUP, all_metrics


@pytest.fixture
def offered(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, list[EntryPoint]]]:
    """Group -> entry points of other packages."""
    points: dict[str, list[EntryPoint]] = {}
    for module in ("shaping.audits.metrics", "launch.config.plugins"):
        monkeypatch.setattr(f"{module}.entry_points", lambda group: points.get(group, []))
    all_metrics.cache_clear()
    yield points
    all_metrics.cache_clear()


@pytest.mark.parametrize(
    ("group", "found", "told"),
    [
        (GROUP, ImportError("no such module"), "does not load: ImportError: no such module"),
        (GROUP, "no metric at all", "is no Metric and holds none"),
        (SECTION.group, ImportError("no such module"), "does not load: ImportError: no such module"),
        (SECTION.group, dict, "is not a subclass of launch.report.sections.base.Section"),
    ],
)
def test_a_broken_metric_or_section_is_told_before_anything_starts(
    tmp_path: Path, offered: dict[str, list[Any]], group: str, found: object, told: str
) -> None:
    config = study(tmp_path / "runs", {"arm": ""})
    check_study(config)
    all_metrics.cache_clear()
    offered[group] = [EntryPoint("mine", found)]
    for start in (check_study, lambda each: run_study(each, trainer=TRAINER, start_model=START_MODEL)):
        all_metrics.cache_clear()
        with pytest.raises(PluginError, match=told):
            start(config)
    assert not (tmp_path / "runs").exists()
