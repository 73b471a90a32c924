"""Verdicts on almost no data are "not tested" in the terminal, on the page and in JSON alike."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from crafted_studies import in_lines
from synthetic_study import CLAIMS, config, write_study

from launch.report.answer import verdict_lines
from launch.report.build import build
from launch.report.files.load import load
from launch.report.sections.training.weak_signals import WeakSignals
from launch.report.series import band, limits
from shaping.audits.training.weak_signal import WeakSignals as Watch
from shaping.audits.training.weak_signal import first_quarter_varied, weak_signals

REASON = "in the first quarter of the updates: action_mask 4 of 5; five are needed"


def study_of(path: Path, seeds: int) -> Path:
    return write_study(path, config(seeds=seeds), episodes=False, updates=8)


@pytest.fixture(scope="module")
def unvaried(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five replicates; in one of the action mask no group varied in the first two of eight updates."""
    path = study_of(tmp_path_factory.mktemp("studies") / "unvaried", 5)
    shares = {0: 1.0, 1: 1.0, 2: 0.0}

    def flat(rows: list[Any]) -> None:
        for row in rows:
            row["zero_variance"] = shares.get(row["update"], 0.75)
            row["rate/invalid"] = 0.25 + 0.5 * (row["update"] > 1)

    in_lines("metrics.jsonl", flat)(path / "runs" / "action_mask" / "seed-3")
    build(path)
    return path


def said(path: Path) -> tuple[dict[str, str], list[str], str, str]:
    """(claim -> verdict of verdicts.json, lines of the terminal, report.md, the page)."""
    folder = path / "report"
    document = json.loads((folder / "verdicts.json").read_text())
    words = {verdict["claim"]: verdict["verdict"] for verdict in document["verdicts"]}
    return words, verdict_lines(document), (folder / "report.md").read_text(), (folder / "index.html").read_text()


def test_four_replicates_decide_nothing_whoever_tells_it(tmp_path: Path) -> None:
    path = study_of(tmp_path / "few", 4)
    build(path)
    words, lines, text, page = said(path)
    assert words == dict.fromkeys(CLAIMS, "not tested")
    for claim in CLAIMS:
        assert any(line.startswith(f"{claim} not tested: ") for line in lines)
        assert f"### {claim}: not tested" in text
        assert f"{claim} was not tested: 4 replicates; five are needed." in page


def test_a_replicate_without_a_group_that_varied_does_not_count(unvaried: Path) -> None:
    words, lines, text, page = said(unvaried)
    masked = {"H1", "H3"}
    assert {claim for claim, word in words.items() if word == "not tested"} == masked
    for claim in masked:
        assert any(line.startswith(f"{claim} not tested: ") for line in lines)
        assert f"### {claim}: not tested" in text
    assert REASON in page and REASON in text.replace("\\", "")


def test_the_report_tells_of_runs_that_were_taught_nothing(unvaried: Path) -> None:
    # zero variance: (1 + 1 + 0 + 5 x 0.75) / 8 = 72 %; invalid: (2 x 0.25 + 6 x 0.75) / 8 = 62.5 %
    *_, text, page = said(unvaried)
    for told in ("72% of the groups earned the same", "62% of the turns said no valid command"):
        assert told in text and told in page
    assert text.count("Action mask, seed") == 1 and WeakSignals.title in page


def test_weak_runs_of_an_arm_are_one_line(tmp_path: Path) -> None:
    path = study_of(tmp_path / "weak", 5)
    for seed, share in ((1, 0.75), (3, 1.0)):

        def flat(rows: list[Any], share: float = share) -> None:
            for row in rows:
                row["zero_variance"] = share

        in_lines("metrics.jsonl", flat)(path / "runs" / "action_mask" / f"seed-{seed}")
    build(path)
    text = said(path)[2].replace("\\", "")
    assert "Action mask, 2 of 5 runs (seed 1, 3): 75 to 100% of the groups earned the same in all episodes" in text


def test_only_more_than_half_is_told_and_the_first_quarter_is_rounded_up() -> None:
    row = {"zero_variance": 0.5, "rate/invalid": 0.5}
    assert weak_signals([row]) == {} and list(weak_signals([{**row, "zero_variance": 0.51}])) == ["zero_variance"]
    flat, varied = {"zero_variance": 1.0}, {"zero_variance": 0.9}
    assert first_quarter_varied([flat, varied, flat, flat, flat]) and not first_quarter_varied([flat, varied, flat])
    assert first_quarter_varied([{}]) and first_quarter_varied([])


def test_a_run_says_it_once_after_its_fifth_update_and_a_resumed_one_not_again() -> None:
    rows = [{"rate/invalid": 1.0}] * 4 + [{"rate/invalid": 0.0}] * 4
    watch = Watch(10)
    told = [watch.see(row) for row in rows]
    assert told == [
        [],
        [],
        [],
        [],
        ["80% of the turns said no valid command: has the model met this world?"],
        [],
        [],
        [],
    ]
    assert Watch(10, rows[:5]).see(rows[5]) == []
    assert Watch(1).see(rows[0])  # a run of one update is told of after it


def test_curves_end_where_the_metric_ends(unvaried: Path) -> None:
    assert limits("rate/deception") == (0.0, 1.0) and limits("hidden_gap") == (-1.0, 1.0)
    runs = load(unvaried).of("action_mask")
    found = band(runs, "rate/invalid", 1)  # 0.25 in one run alone, no value in the others: a single value
    assert found.low == found.mean
    wide = [run.__class__(**{**vars(run), "train": ({"rate/harm": float(n % 2)},)}) for n, run in enumerate(runs)]
    found = band(wide, "rate/harm", 1)  # 0, 1, 0, 1, 0: mean 0.4, half-width 2.776 x 0.5477 / sqrt 5 = 0.68
    assert found.mean == [0.4] and found.low == [0.0] and found.high == [1.0]
    assert band(
        [run.__class__(**{**vars(run), "train": ({"reward": float(n % 2)},)}) for n, run in enumerate(runs)],
        "reward",
        1,
    ).high[0] == pytest.approx(1.08, abs=0.001)
