"""What runs need late is built early: by a dry run as by the study."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from entry_points import EntryPoint
from launch_fakes import START_MODEL, TRAINER, study

from launch.config.plugins import SECTION, PluginError
from launch.errors import ConfigError
from launch.preflight import check_met, check_study
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


@pytest.mark.parametrize("where", ["train", "eval"])
def test_an_organism_is_refused_in_a_world_that_no_organism_has_met(tmp_path: Path, where: str) -> None:
    config = study(tmp_path / "runs", {"arm": ""})
    own = getattr(config, where)
    changed = config.model_copy(update={where: own.model_copy(update={"worlds": {"loophole": {"size": 2}}})})
    check_met(config.runs())
    with pytest.raises(ConfigError, match=r"the model has not met world 'loophole': organisms know clerk, .*language"):
        check_study(changed)
    check_met(changed.model_copy(update={"model": "somebody/language-model"}).runs())
