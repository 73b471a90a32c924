"""Every benchmark runs, and says what it measured in the same form. Nothing is timed against a clock here."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # benchmarks are run from the repository, not installed

from benchmarks.table import Row, interleaved, main, show, throughput

NAMES = (
    "worlds", "organism", "sampling", "vocabulary", "learning", "update", "learner", "prefixes", "controller",
    "interventions", "audits", "viewer",
)  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def _small_organism_elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SHAPING_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.mark.parametrize("name", NAMES)
def test_the_command_line_prints_a_table_and_writes_its_rows(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "rows.json"
    main(importlib.import_module(f"benchmarks.{name}").benchmark, ["--quick", "--json", str(file)])
    rows = json.loads(file.read_text())
    printed = capsys.readouterr().out
    assert rows
    for row in rows:
        assert set(row) == {"name", "ours", "peer", "unit", "ratio", "target"}
        assert row["name"] in printed
        assert row["ours"] >= 0 and row["unit"]
        assert (row["peer"] is None) == (row["ratio"] is None)
        Row(**row).met  # noqa: B018  the target can be read


def test_the_targets_of_the_project_are_among_the_rows() -> None:
    worlds = importlib.import_module("benchmarks.worlds").benchmark(True)
    update = importlib.import_module("benchmarks.update").benchmark(True)
    assert {row.target for row in worlds if "step" in row.name} == {"ours < 50"}
    assert {row.name for row in update if row.target == "ours < 3"} == {"audit", "read"}
    stages = [row for row in update if row.name != "read"]  # monitors read beside the stages
    assert sum(row.ours for row in stages) == pytest.approx(100)


@pytest.mark.parametrize(
    ("row", "met"),
    [
        (Row("a", 49.0, unit="us", target="ours < 50"), True),
        (Row("a", 50.0, unit="us", target="ours < 50"), False),
        (Row("a", 9.0, 1.0, ratio=1.9, target="ratio >= 2"), False),
        (Row("a", 1.0, 9.0, ratio=2.0, target="ratio >= 2"), True),
        (Row("a", 1.0), None),
    ],
)
def test_a_target_names_its_column(row: Row, met: bool | None) -> None:
    assert row.met is met


def test_a_target_on_a_missing_number_is_refused() -> None:
    with pytest.raises(ValueError, match="no ratio"):
        Row("a", 1.0, target="ratio >= 2").met  # noqa: B018


def test_ratios_come_from_pairs_taken_at_the_same_time() -> None:
    row = throughput("a", "tokens/s", [1.0, 10.0, 1.0], [3.0, 30.0, 4.0], work=100)
    assert (row.ours, row.peer, row.ratio) == (100, 25, 3)


def test_variants_take_turns() -> None:
    order: list[str] = []
    seconds = interleaved([lambda: order.append("a"), lambda: order.append("b")], repetitions=2, warm_up=1)
    assert order == ["a", "b"] * 3
    assert [len(taken) for taken in seconds] == [2, 2]


def test_a_missed_target_is_shown() -> None:
    table = show([Row("slow", 60.0, unit="us", target="ours < 50"), Row("fast", 40.0, unit="us", target="ours < 50")])
    slow, fast = table.splitlines()[1:]
    assert slow.endswith("MISSED") and fast.endswith("met")
