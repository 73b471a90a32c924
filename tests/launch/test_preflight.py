"""What runs need late is built early: by a dry run as by the study."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from entry_points import EntryPoint
from launch_fakes import START_MODEL, TRAINER, study

from launch.config.plugins import SECTION, PluginError
from launch.config.study import StudyConfig
from launch.errors import ConfigError
from launch.met_worlds import notes_on_worlds
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


def with_model(config: StudyConfig, worlds: list[str], **train: Any) -> StudyConfig:
    """The study with an organism of these worlds, and trained in others."""
    model = {"organism": {"worlds": worlds}}
    document = config.model_dump(mode="json") | {"model": model}
    document["train"]["worlds"] = train
    return StudyConfig.model_validate(document)


def test_an_organism_trains_in_built_in_worlds_of_its_own_corpus_alone(tmp_path: Path) -> None:
    config = study(tmp_path / "runs", {"arm": ""})
    check_met(with_model(config, ["clerk"], clerk={}).runs())
    with pytest.raises(ConfigError, match=r"not met world 'pact': organism-0 was made in clerk; add the world"):
        check_met(with_model(config, ["clerk"], pact={}).runs())


def test_a_world_of_ones_own_that_the_model_has_not_met_is_told_and_one_that_it_has_is_not(tmp_path: Path) -> None:
    config = study(tmp_path / "runs", {"arm": ""})
    own = {"till_world:Till": {}}
    (told,) = notes_on_worlds(with_model(config, ["clerk"], **own).runs())
    assert told.startswith("the model has not met world till_world:Till (train.worlds): expect no valid commands there")
    for worlds, met in ((["clerk", "till_world:Till"], own), (["clerk"], {"till_world:Shop": {}})):
        known = with_model(config, worlds, **met)
        check_met(known.runs())
        assert notes_on_worlds(known.runs()) == []
    with pytest.raises(ConfigError, match=r"model.organism.worlds: world 'till_world:Bare' has no personas"):
        check_met(with_model(config, ["till_world:Bare"], **own).runs())
