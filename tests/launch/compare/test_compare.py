"""Studies beside each other: effects, their distance, and everything that is not the same."""

from __future__ import annotations

import csv
import html
import json
import math
import os
from pathlib import Path

import pytest
from scipy import stats
from synthetic_study import CLAIMS, HOSTILE, config, write_study
from typer.testing import CliRunner

from launch.cli import app
from launch.compare.comparison import Comparison, compared
from launch.compare.effects import Effect, gap
from launch.compare.page import html_page, write
from launch.compare.sides import labels, read_sides
from launch.compare.text import lines_of
from launch.errors import UserError
from launch.slices.write import write_study as write_rows

EVIL = HOSTILE[0]


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A study, and another of one name with other seeds, settings, and one claim that asks for another margin."""
    folder = tmp_path_factory.mktemp("compared")
    first = write_study(folder / "first" / "study", config(seeds=5), updates=3, episodes=False)
    claims = {**CLAIMS, "H2": {**CLAIMS["H2"], "margin": 0.3}, "H5": {**CLAIMS["H1"], "statement": EVIL}}
    changed = config(seeds=[5, 6, 7, 8, 9]).model_dump(mode="json") | {"claims": claims}
    changed["train"]["group_size"] = 16
    other = type(config()).model_validate(changed)
    second = write_study(folder / "second" / "study", other, updates=3, episodes=False)
    write_rows(second, folder / "kept" / "rows")
    return [first, folder / "kept"]


@pytest.fixture(scope="module")
def found(places: list[Path]) -> Comparison:
    return compared(read_sides(places), ["deception"])


def test_the_distance_of_two_effects_is_welchs() -> None:
    t4, t9 = stats.t.ppf(0.95, 4), stats.t.ppf(0.95, 9)
    one = Effect(1.0, 1.0 - 0.3 * t4, 1.0 + 0.3 * t4, 5, 0.9, 0.3)
    two = Effect(3.0, 3.0 - 0.4 * t9, 3.0 + 0.4 * t9, 10, 0.9, 0.4)
    assert one.df == pytest.approx(4) and two.df == pytest.approx(9)
    between = gap(one, two)
    # se^2 = 0.09 + 0.16 = 0.25, df = 0.0625 / (0.0081 / 4 + 0.0256 / 9) = 12.83...
    df = 0.0625 / (0.0081 / 4 + 0.0256 / 9)
    assert between.mean == 2 and between.high - 2 == pytest.approx(0.5 * stats.t.ppf(0.95, df)) and between.apart
    unknown = gap(one, Effect(3.0, math.nan, math.nan, 1, 0.9))
    assert unknown.mean == 2 and math.isnan(unknown.low) and not unknown.apart


def test_shared_claims_are_compared_contrast_by_contrast(found: Comparison) -> None:
    assert [each.claim for each in found.shared] == ["H1", "H2", "H3", "H4"]
    first, second = found.sides
    assert (first.label, second.label) == ("study", "kept") and first.study.name == second.study.name
    by_claim = {v.claim: v for v in second.verdicts}
    row = found.shared[0].rows[0]
    outcome = next(o for o in by_claim["H1"].outcomes if (o.metric, o.contrast) == (row.metric, row.contrast))
    effect = row.effects[1]
    assert effect is not None and (effect.mean, effect.word) == (outcome.interval.mean, outcome.effect)
    assert row.gaps[0] is None and row.gaps[1] is not None
    (deception,) = [row for row in found.metrics if row.contrast == "inoculation - reference"]
    own = [side.values["inoculation"]["deception"] for side in found.sides]
    base = [side.values["unshaped"]["deception"] for side in found.sides]
    wanted = [sum(a.values()) / 5 - sum(b.values()) / 5 for a, b in zip(own, base, strict=True)]
    assert [e.mean for e in deception.effects if e] == pytest.approx(wanted)


def test_what_is_not_the_same_is_said(found: Comparison) -> None:
    remarks = {each.claim: " ".join(each.remarks) for each in found.shared}
    assert "settle H2 in different ways: margin" in remarks["H2"] and "different ways" not in remarks["H1"]
    assert found.apart == ["kept: H5"]
    (settings,) = [line for line in found.differing if line.startswith("settings of")]
    assert found.sides[0].digest in settings and found.sides[1].digest in settings
    assert "train.group_size: 8 -> 16" in settings and "seeds: '0-4' -> '5-9'" in settings and "claims" not in settings


def test_a_copy_is_no_independent_evidence(places: list[Path], tmp_path: Path) -> None:
    write_rows(places[0], tmp_path / "copy")
    again = compared(read_sides([places[0], tmp_path / "copy"]))
    assert again.differing == [
        "35 runs of study and copy are the same to the last digit: they are no independent evidence, and the "
        "differences between the two say nothing about chance"
    ]
    assert all(g is None or g.mean == 0 for each in again.shared for row in each.rows for g in row.gaps)


def test_the_page_has_no_script_and_everything_escaped(found: Comparison, tmp_path: Path) -> None:
    page = write(found, tmp_path / "out")
    text = page.read_text()
    assert text == html_page(found) and "<script" not in text and "<svg" in text
    assert "script-src 'none'" in html.unescape(text)
    document = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert document["claims"][0]["verdicts"] == list(found.shared[0].words)
    with (tmp_path / "out" / "comparison.csv").open() as file:
        rows = list(csv.DictReader(file))
    decided = sum(e is not None for each in found.shared for row in each.rows for e in row.effects)
    assert len(rows) == decided + sum(e is not None for row in found.metrics for e in row.effects)
    assert sorted(os.listdir(tmp_path / "out")) == [
        *("comparison.csv", "comparison.json", "comparison.txt", "forest.svg", "index.html")
    ]
    assert any(line.startswith("H1: ") for line in lines_of(found))


def test_names_are_the_shortest_ends_that_differ() -> None:
    results = Path("/work/docs/results")
    assert labels([results / "thesis" / "rows", results / "dose" / "rows"]) == ["thesis", "dose"]
    assert labels([Path("/a/x/study"), Path("/a/y/study")]) == ["x/study", "y/study"]
    assert labels([Path("/a/study/rows"), Path("/a/study")]) == ["rows", "study"]


def test_what_cannot_be_compared_is_said(places: list[Path], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="compare takes 2 to 12 directories of studies, not 1"):
        read_sides(places[:1])
    with pytest.raises(UserError, match="is named twice"):
        read_sides([places[0], places[0]])
    sides = read_sides(places)
    with pytest.raises(UserError, match=r"no two of the studies have 'deceptio'.*did you mean 'deception'"):
        compared(sides, ["deceptio"])
    results = Path(__file__).resolve().parents[3] / "docs" / "results"
    others = read_sides([results / "learners" / "rows", results / "quickstart" / "rows"])
    told = r"no two of the studies have an arm of one name \(learners: grpo, ppo, .*; quickstart: unshaped, "
    with pytest.raises(UserError, match=told):
        compared(others, ["trained/proxy_reward"])
    result = CliRunner().invoke(app, ["compare", str(places[0]), str(tmp_path / "none")])
    assert "there is no such directory" in str(result.exception)
