"""Rows of a study: all that a report needs but for the episodes, and nothing of the machine."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from synthetic_study import config, write_study

from launch.config.study import StudyConfig
from launch.report.build import build
from launch.report.files.load import StudyDirectoryError, load
from launch.slices.write import write_study as write_rows
from launch.storage.documents import checksum
from launch.storage.rundir import RunDirectory

ARMS = {"unshaped": {"role": "reference"}, "action_mask": {"role": "treatment"}}
ONE = ("action_mask", 1)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study with claims and episodes."""
    return write_study(tmp_path_factory.mktemp("whole") / "study", config(seeds=2), updates=4)


@pytest.fixture
def study(tmp_path: Path) -> Path:
    return small(tmp_path / "study")


def small(path: Path, **changes: Any) -> Path:
    given: dict[str, Any] = {"arms": ARMS, "seeds": 2, **changes}
    return write_study(path, config(**given), episodes=False, updates=3)


def crafted(rows: Path, change: Callable[[dict[str, Any]], Any], *, fits: bool = True) -> Path:
    """Change the rows of one run; with a checksum that fits, unless told otherwise."""
    path = rows / ONE[0] / f"seed-{ONE[1]}.json"
    document = json.loads(path.read_text())
    change(document)
    if fits:
        document["checksum"] = checksum(document)
    path.write_text(json.dumps(document))
    return path


def reason(rows: Path) -> str:
    """Why the crafted run is missing; all others are there."""
    found = load(rows)
    assert len(found.runs) == 3
    (missing,) = found.missing
    assert (missing.arm, missing.seed) == ONE and "\n" not in missing.reason
    return missing.reason


def test_a_report_of_rows_has_the_tables_and_verdicts_of_the_study(whole: Path, tmp_path: Path) -> None:
    written = write_rows(whole, tmp_path / "rows")
    assert (written.runs, written.left_out) == (14, [])
    own, kept = build(whole, tmp_path / "own").parent, build(tmp_path / "rows").parent
    assert kept == tmp_path / "rows" / "report"
    for name in ("arms.csv", "verdicts.json"):
        assert (kept / name).read_bytes() == (own / name).read_bytes()
    for name in ("report.md", "index.html"):
        text = (kept / name).read_text(encoding="utf-8")
        assert "the episodes of 14 of 14 runs are not kept in rows" in text
        assert "not kept in rows" not in (own / name).read_text(encoding="utf-8")


def test_numbers_and_keys_of_every_line_are_exact(study: Path, tmp_path: Path) -> None:
    directory = RunDirectory(study / "runs" / "unshaped" / "seed-0")
    (directory.path / "result.json").unlink()
    for update, row in enumerate([{"reward": 0.1 + 0.2}, {"rate/harm": None, "reward": 1e-320}, {"x": "ü\u2028"}]):
        directory.metrics({"phase": "train", "update": 3 + update, **row})
    directory.finish({"arm": "unshaped", "seed": 0, "summary": {"deception": 1 / 3}})
    write_rows(study, tmp_path / "rows")
    own, kept = load(study), load(tmp_path / "rows")
    assert kept.config == own.config and kept.subjects == own.subjects == {0: "organism-0", 1: "organism-0"}
    for a, b in zip(own.runs, kept.runs, strict=True):
        assert (a.arm, a.seed, a.train, a.evaluation, a.base) == (b.arm, b.seed, b.train, b.evaluation, b.base)
        assert a.result["summary"] == b.result["summary"] and b.directory is None


def test_rows_are_small_and_say_nothing_of_the_machine(tmp_path: Path) -> None:
    path = small(tmp_path / "study", model=str(tmp_path / "models" / "mine"), output=str(tmp_path / "out"))
    written = write_rows(path)
    files = sorted(written.folder.rglob("*.json"))
    assert [file.relative_to(path / "rows").as_posix() for file in files] == [
        *("action_mask/seed-0.json", "action_mask/seed-1.json"),
        "study.json",
        *("unshaped/seed-0.json", "unshaped/seed-1.json"),
    ]
    assert all(str(tmp_path) not in file.read_text() for file in files)
    assert written.largest == max(file.stat().st_size for file in files if file.name != "study.json") < 8_000
    assert load(path / "rows").subjects == {0: "mine", 1: "mine"}


def test_runs_that_are_not_whole_are_left_out_and_told(tmp_path: Path) -> None:
    path = write_study(
        tmp_path / "study",
        config(arms=ARMS, seeds=2),
        episodes=False,
        updates=2,
        unfinished=[ONE],
        absent=[("unshaped", 1)],
    )
    written = write_rows(path)
    assert written.runs == 2 and written.left_out == ["action_mask/seed-1: interrupted or still running"]
    assert {(each.arm, each.seed): each.reason for each in load(path / "rows").missing} == dict.fromkeys(
        [ONE, ("unshaped", 1)], "not among the rows"
    )
    (path / "runs" / "unshaped" / "seed-0" / "result.json").unlink()
    (path / "runs" / "action_mask" / "seed-0" / "result.json").unlink()
    with pytest.raises(StudyDirectoryError, match=r"no complete run.*no rows to keep"):
        write_rows(path)


def test_the_same_rows_are_written_again_and_other_results_never_over_them(study: Path, tmp_path: Path) -> None:
    write_rows(study)
    first = {path: path.read_bytes() for path in (study / "rows").rglob("*.json")}
    write_rows(study)
    assert {path: path.read_bytes() for path in (study / "rows").rglob("*.json")} == first
    other = write_study(
        tmp_path / "other", config(arms=ARMS, seeds=2), episodes=False, updates=3, summary={"deception": 0.25}
    )
    with pytest.raises(
        StudyDirectoryError, match=r"seed-0\.json holds other results .*summary\.deception: 0\.\d+ -> 0\.25"
    ):
        write_rows(other, study / "rows")
    assert {path: path.read_bytes() for path in (study / "rows").rglob("*.json")} == first


def test_rows_go_into_no_foreign_folder(study: Path, tmp_path: Path) -> None:
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "holiday.jpg").touch()
    with pytest.raises(StudyDirectoryError, match=r"foreign.* has no study.json"):
        write_rows(study, tmp_path / "foreign")
    with pytest.raises(StudyDirectoryError, match="holds a study, not rows"):
        write_rows(study, small(tmp_path / "other"))
    with pytest.raises(StudyDirectoryError, match="holds rows already"):
        write_rows(write_rows(study).folder)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda d: d.update(version=2), "has version 2 of the format; this program reads 1"),
        (lambda d: d.update(format="other"), "format: Input should be 'shaping-rows'"),
        (lambda d: d.pop("metrics"), "metrics: this key is required"),
        (lambda d: d.update(own=1), "own: unknown key"),
        (lambda d: d.update(seed="1"), "seed: Input should be a valid integer"),
        (lambda d: d.update(seed=0), "is of arm action_mask, seed 0: renamed?"),
        (lambda d: d.update(arm="unshaped"), "is of arm unshaped, seed 1: renamed?"),
        (lambda d: d.update(study="0" * 32), "is of another study"),
        (lambda d: d["record"]["config"].update(seed=7), "holds the config of another run"),
        (lambda d: d["metrics"]["rows"][1].pop(), "metrics row 2 has 6 values, not 7"),
        (lambda d: d["evaluation"].update(columns=["world"] * 5), "evaluation has two columns of one name"),
        (lambda d: d["metrics"].update(rows={}), "metrics.rows: Input should be a valid list"),
        (lambda d: d["metrics"]["rows"][2].__setitem__(2, "much"), "metrics.jsonl line 3: 'reward' is 'much'"),
        (lambda d: d["metrics"]["rows"][2].__setitem__(2, 1e300), "metrics.jsonl line 3: 'reward' is 1e+300"),
        (lambda d: d["evaluation"]["columns"].__setitem__(0, "place"), "eval.jsonl line 1 has no world"),
        (
            lambda d: d["result"].update(summary={"deception": "high"}),
            "result: summary: Input should be a valid number (got 'high')",
        ),
        (lambda d: d["result"].update(seed=0), "result.json is of arm 'action_mask', seed 0"),
        (lambda d: d["result"].pop("summary"), "result.json has no summary"),
        (lambda d: d.update(result=[]), "result: Input should be a valid dictionary"),
    ],
)
def test_crafted_rows_cost_one_run_and_one_line(
    study: Path, change: Callable[[dict[str, Any]], Any], told: str
) -> None:
    rows = write_rows(study).folder
    crafted(rows, change)
    assert told in reason(rows)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "cannot be read as JSON"),
        ('{"format": "shaping-rows", "version": 1', "cannot be read as JSON"),
        ('{"format": "shaping-rows", "version": 1, "seed": NaN}', "NaN is no number"),
        ("[" * 100_000, "nested too deeply"),
        ('{"a":' * 70 + "0" + "}" * 70, "nested more than 64 levels deep"),
        ("[1, 2]", "Input should be a valid dictionary"),
        ("null", "Input should be a valid dictionary"),
    ],
)
def test_files_that_are_no_rows_cost_one_run_and_one_line(study: Path, text: str, told: str) -> None:
    rows = write_rows(study).folder
    (rows / ONE[0] / "seed-1.json").write_text(text)
    assert told in reason(rows)


def test_a_changed_number_is_noticed(study: Path) -> None:
    rows = write_rows(study).folder
    crafted(rows, lambda d: d["result"]["summary"].update(deception=0.0), fits=False)
    assert reason(rows) == "action_mask/seed-1.json has changed since it was written (its checksum does not fit)"


def test_pipes_links_and_huge_files_are_not_read(study: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    rows = write_rows(study).folder
    path = rows / ONE[0] / "seed-1.json"
    path.write_text(path.read_text() + " " * 100_000)
    assert not load(rows).missing
    monkeypatch.setattr("launch.slices.rows.MAX_BYTES", 100_000)
    assert "of which a report reads at most 100,000" in reason(rows)
    outside = path.rename(tmp_path / "outside.json")
    path.symlink_to(outside)
    assert "is a link that leads out of the study" in reason(rows)
    path.unlink()
    os.mkfifo(path)
    assert "is a pipe or a device" in reason(rows)


def test_other_files_among_the_rows_are_left_alone(study: Path) -> None:
    rows = write_rows(study).folder
    (rows / "README.md").write_text("kept by hand")
    (rows / "unshaped" / "seed-0 (copy).json").write_text("{}")
    assert len(load(rows).runs) == 4 and not load(rows).missing


def test_a_study_without_a_whole_row_is_refused(study: Path) -> None:
    rows = write_rows(study).folder
    for path in rows.glob("*/seed-*.json"):
        path.write_text("{}")
    with pytest.raises(StudyDirectoryError, match=r"no complete run \(unshaped, seed 0: unshaped/seed-0\.json: "):
        load(rows)


def test_a_config_is_that_of_the_study(study: Path) -> None:
    found = json.loads((write_rows(study).folder / "study.json").read_text())
    assert found["format"] == "shaping-study-rows"
    assert StudyConfig.model_validate(found["config"]) == load(study).config
