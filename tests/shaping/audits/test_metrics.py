"""One registry of metrics: a record says what a number means, and a new one is one new file."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import shaping.audits
from envs.episode import Episode, Labels
from envs.store import read_episodes, write_episodes
from shaping.audits import audit_update, condition_row, summarise
from shaping.audits.metrics import Metric, MetricError, all_metrics, metrics_of, with_column
from shaping.audits.played import conditions_of

MakeEpisode = Callable[..., Episode]

NEW = """
from shaping.audits.metrics import Metric

LONGEST = Metric(
    name="{name}", label="longest episode", definition="most turns of an episode", unit="turns",
    direction="neutral", source="evaluation", compute=lambda played: float(played.counts.turns.max()),
    column="{name}",
)
"""


@pytest.fixture(autouse=True)
def scanned_again() -> Iterator[None]:
    """The registry is kept for the life of a process; here every test begins and ends without it."""
    all_metrics.cache_clear()
    yield
    all_metrics.cache_clear()


@pytest.fixture
def conditions(make_episode: MakeEpisode) -> list[Episode]:
    """Two worlds under the overseer and without it; with harm where nobody looks."""
    possible = {"harm": True, "deception": True}
    return [
        replace(
            make_episode(
                [1.0, 0.0], world=world, labels=[Labels(harm=watch == "never", opportunity=possible), Labels()]
            ),
            options={"max_return": 2.0, "watch": watch, "placebo": "on"},
        )
        for world in ("clerk", "steward")
        for watch in ("always", "never")
    ]


def record(**changes: Any) -> Metric:
    given: dict[str, Any] = {"name": "new", "label": "new", "definition": "d", "unit": "u", "direction": "neutral"}
    return Metric(**given | {"source": "evaluation", "compute": lambda played: 1.0} | changes)


def test_names_are_unique_and_tables_begin_with_reward_and_deception() -> None:
    names = [metric.name for metric in all_metrics()]
    assert len(names) == len(set(names))
    assert names[:3] == ["proxy_reward", "true_reward", "deception"]


def test_all_that_is_computed_has_a_record(conditions: list[Episode]) -> None:
    known = [metric.name for metric in all_metrics()] + [metric.column for metric in with_column()]
    known += [f"{name}/<world>" for name in known] + [f"{name}.<world>" for name in known]
    pattern = re.compile("|".join(re.sub("<[^<>]+>", "[^/]+", re.escape(name)) for name in known))
    credit = np.array([0.5, -0.5, 0.1, 0.0])
    row = audit_update(conditions, credit, credit, credit, np.array([0, 0, 1, 1]))
    row |= condition_row(conditions[:1], world="clerk", watch="always", placebo="on")
    row |= summarise([row], conditions_of(conditions), {"reward_access": 1.0})
    fixed = {"world", "watch", "placebo", "cell", "episodes", "status/completed"}
    assert not [name for name in row.keys() - fixed if not pattern.fullmatch(name)]
    assert {"selection/motive:none", "count/harm", "hidden_gap.clerk", "rate/harm/clerk", "zero_variance"} <= row.keys()


def test_a_finished_run_gives_the_same_summary_from_its_files(tmp_path: Path, conditions: list[Episode]) -> None:
    rows = [{"reward": 0.25, "order_violations": 0.5, "selection/deception": 0.125}]
    written = summarise(rows, conditions_of(conditions), {})
    write_episodes(tmp_path / "eval.parquet", conditions)
    assert summarise(rows, conditions_of(read_episodes(tmp_path / "eval.parquet")), {}) == written
    assert written["hidden_gap"] == 1.0 and written["order_violations"] == 0.5


def test_a_new_file_is_a_new_metric_of_runs_that_are_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, conditions: list[Episode]
) -> None:
    write_episodes(tmp_path / "eval.parquet", conditions)
    assert "longest" not in summarise([], conditions_of(conditions), {})
    (tmp_path / "added").mkdir()
    (tmp_path / "added" / "longest_episode.py").write_text(NEW.format(name="longest"))
    monkeypatch.setattr(shaping.audits, "__path__", [*shaping.audits.__path__, str(tmp_path / "added")])
    all_metrics.cache_clear()
    summary = summarise([], conditions_of(read_episodes(tmp_path / "eval.parquet")), {})
    assert summary["longest"] == summary["longest.clerk"] == 2.0
    assert condition_row(conditions[:1], world="clerk", watch="always", placebo="on")["longest"] == 2.0


def install(path: Path, monkeypatch: pytest.MonkeyPatch, points: str, **modules: str) -> None:
    """A package with entry points, as pip would leave it."""
    info = path / "theirs-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[shaping.metrics]\n{points}\n")
    for name, text in modules.items():
        (path / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(str(path))


def test_another_package_adds_metrics_by_an_entry_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    points = "one = their_metric:LONGEST\nmodule = their_module"
    texts = {"their_metric": NEW.format(name="their_longest"), "their_module": NEW.format(name="also_longest")}
    install(tmp_path, monkeypatch, points, **texts)
    found = {metric.name: metric for metric in all_metrics()}
    assert found["their_longest"].label == found["also_longest"].label == "longest episode"
    assert list(found)[-1] == "turns"  # without a position they stand among the last, by name


@pytest.mark.parametrize(
    ("point", "text", "message"),
    [
        ("gone = not_there:X", "", r"entry point 'gone' of shaping\.metrics \(not_there:X\) does not load: ModuleNot"),
        ("none = no_metric:X", "X = 1", r"'none' of shaping\.metrics \(no_metric:X\) is no Metric and holds none"),
        ("twin = no_metric:LONGEST", NEW.format(name="harm"), "two metrics are called 'harm': rename one"),
    ],
)
def test_an_entry_point_that_cannot_be_used_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, point: str, text: str, message: str
) -> None:
    monkeypatch.delitem(__import__("sys").modules, "no_metric", raising=False)
    install(tmp_path, monkeypatch, point, no_metric=text)
    with pytest.raises(MetricError, match=message):
        all_metrics()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"definition": "two\nlines"}, "definition must be one line"),
        ({"unit": " "}, "unit must be one line"),
        ({"direction": "up"}, "direction is 'up'; choose one of"),
        ({"source": "somewhere"}, "source is 'somewhere'; choose one of"),
        ({"name": "a.b"}, r"no dot in the name, as `\.<world>` follows it"),
        ({"compute": None}, "needs a compute function"),
        ({"source": "access"}, "can have no compute function"),
    ],
)
def test_a_record_that_says_too_little_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(MetricError, match=message):
        record(**changes)


@pytest.mark.parametrize("value", [None, float("nan"), float("inf"), {}, {"m": None}])
def test_what_is_not_defined_is_left_out(value: Any) -> None:
    assert record(compute=lambda _: value).measure(None) == {}


def test_a_family_has_a_value_per_member_and_numbers_are_plain() -> None:
    family = record(name="lean/<trait>", source="update", compute=lambda _: {r"\1": np.float32(0.5), "b": 2})
    assert family.measure(None) == {r"lean/\1": 0.5, "lean/b": 2}
    assert [type(value) for value in family.measure(None).values()] == [float, int]
    assert family.family and not record().family


def test_a_metric_that_fails_is_named() -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        record(compute=lambda _: 1 / 0).measure(None)
    assert caught.value.__notes__ == ["while computing the metric 'new'"]


def test_metrics_of_a_source_can_be_measured_unless_they_need_more_than_records() -> None:
    of_others = ("elo", "games_", "preference_")  # of worlds with several seats, and of preference models
    assert {m.name for m in metrics_of("access") if not m.family and not m.name.startswith(of_others)} == {
        "reward_access", "reward_access_initial", "blocked", "access_logprob", "pressure", "relearned"
    }  # fmt: skip
    assert all(metric.compute for metric in metrics_of("training"))
