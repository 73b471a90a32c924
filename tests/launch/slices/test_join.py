"""Slices of one study are joined; slices of two, or two accounts of one run, are refused."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from synthetic_study import ARMS, config, write_study

from launch.config.study import StudyConfig
from launch.errors import UserError
from launch.looks.record import Look, looks_taken, record_looks
from launch.report.build import build
from launch.report.files.load import StudyDirectoryError, load
from launch.slices.write import write_study as write_rows

SEEDS = 4


def part(path: Path, seeds: list[int], study: StudyConfig | None = None, **given: Any) -> Path:
    """The seeds of a study as one machine ran them."""
    study = study or config(seeds=SEEDS)
    absent = [(run.point_name, run.seed) for run in study.runs() if run.seed not in seeds]
    return write_study(path, study, absent=absent, **{"episodes": False, "updates": 3, **given})


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two slices."""
    folder = tmp_path_factory.mktemp("parts")
    return part(folder / "a", [0, 2]), part(folder / "b", [1, 3])


def rows(path: Path, out: Path) -> Path:
    return write_rows(path, out).folder


@pytest.mark.parametrize("kept", [(), (0,), (0, 1)])
def test_the_report_of_slices_is_that_of_the_study(
    parts: tuple[Path, Path], tmp_path: Path, kept: tuple[int, ...]
) -> None:
    whole = build(part(tmp_path / "whole", list(range(SEEDS)))).parent
    slices = [rows(path, tmp_path / f"rows-{i}") if i in kept else path for i, path in enumerate(parts)]
    for order in (slices, slices[::-1]):
        joined = build(order, tmp_path / "joined").parent
        for name in ("arms.csv", "verdicts.json"):
            assert (joined / name).read_bytes() == (whole / name).read_bytes()


def test_rows_of_several_slices_in_one_folder_are_one_study(parts: tuple[Path, Path], tmp_path: Path) -> None:
    for path in parts:
        rows(path, tmp_path / "rows")
    assert len(load(tmp_path / "rows").runs) == SEEDS * len(ARMS) and not load(tmp_path / "rows").missing


def test_what_no_slice_holds_is_missing(parts: tuple[Path, Path], tmp_path: Path) -> None:
    found = load(parts[0], part(tmp_path / "c", [3]))
    assert {each.seed for each in found.missing} == {1} and {each.reason for each in found.missing} == {"not started"}


def test_the_looks_that_a_study_has_taken_go_with_its_rows(tmp_path: Path) -> None:
    study = config(seeds={"looks": [5, 8]}, arms={"unshaped": {"role": "reference"}})
    path = part(tmp_path / "study", list(range(5)), study)
    record_looks(path, [Look(replicates=5)])
    kept = rows(path, tmp_path / "rows")
    assert looks_taken(kept) == looks_taken(path) == [Look(replicates=5)]
    other = part(tmp_path / "other", [7], study)
    for found in (load(kept), load(other, kept), load(kept, other)):
        assert found.directory == kept and not found.missing


def test_a_joined_report_needs_a_place(parts: tuple[Path, Path]) -> None:
    with pytest.raises(UserError, match="--out: the report of several directories"):
        build(list(parts))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"seeds": 5}, ["seeds: 4 -> 5"]),
        ({"name": "other"}, ["name: 'synthetic' -> 'other'"]),
        ({"model": {"organism": {"steps": 7}}}, ["model.organism.steps: ", " -> 7"]),
        ({"claims": {}}, ["claims.", "-> '(absent)'"]),
    ],
)
def test_slices_of_two_studies_are_refused_with_the_keys_that_differ(
    parts: tuple[Path, Path], tmp_path: Path, changes: dict[str, Any], told: list[str]
) -> None:
    other = part(tmp_path / "other", [1], config(**{"seeds": SEEDS, **changes}))
    with pytest.raises(StudyDirectoryError, match="no slices of one study") as refused:
        load(parts[0], other)
    assert all(text in str(refused.value) for text in told)
    with pytest.raises(StudyDirectoryError, match="no slices of one study"):
        rows(other, rows(parts[0], tmp_path / "rows"))


def test_what_a_study_shows_and_where_it_lies_makes_no_other_study(parts: tuple[Path, Path], tmp_path: Path) -> None:
    asked = {"output": "elsewhere", "report": {"question": "Is it so?"}, "tracking": ["tensorboard"]}
    other = part(tmp_path / "other", [1], config(seeds=SEEDS, **asked))
    assert {run.seed for run in load(parts[0], other).runs} == {0, 1, 2}


def test_models_at_two_places_are_one_model_by_their_name(tmp_path: Path) -> None:
    here, there = (config(seeds=2, model=f"/home/{name}/models/tiny") for name in ("ann", "bo"))
    found = load(part(tmp_path / "a", [0], here), part(tmp_path / "b", [0, 1], there))
    assert len(found.runs) == 2 * len(ARMS) and found.subjects == {0: "tiny", 1: "tiny"}


def test_a_run_that_two_slices_hold_alike_counts_once(parts: tuple[Path, Path], tmp_path: Path) -> None:
    both = part(tmp_path / "both", [1, 2])
    assert len(load(parts[0], both, rows(parts[1], tmp_path / "rows")).runs) == SEEDS * len(ARMS)
    kept = load(rows(parts[0], tmp_path / "other"), parts[0])
    assert all(run.directory is not None for run in kept.runs), "the slice with episodes is the one to read"


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"summary": {"deception": 0.25}}, r"result\.json, summary\.deception: 0\.\d+ -> 0\.25"),
        ({"result": {"oracle": True}}, r"result\.json, oracle: False -> True"),
        ({"updates": 2}, r"result\.json, updates: 3 -> 2 and \d+ more"),
    ],
)
def test_two_accounts_of_one_run_are_refused_with_both_places(
    parts: tuple[Path, Path], tmp_path: Path, given: dict[str, Any], told: str
) -> None:
    other = part(tmp_path / "other", [2], **given)
    for one in (other, rows(other, tmp_path / "rows")):
        with pytest.raises(StudyDirectoryError, match=told) as refused:
            load(parts[0], one)
        assert str(parts[0]) in str(refused.value) and str(one) in str(refused.value)
        assert str(refused.value).startswith("unshaped, seed 2 is in ")


def test_lines_that_differ_are_refused_too(parts: tuple[Path, Path], tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(parts[0], copy)
    from crafted_studies import in_lines

    in_lines("metrics.jsonl", lambda found: found[1].update(reward=0.0))(copy / "runs" / "action_mask" / "seed-0")
    with pytest.raises(
        StudyDirectoryError, match=r"^action_mask, seed 0 .*metrics\.jsonl, line 2, reward: 0\.\d+ -> 0\.0"
    ):
        load(parts[0], copy)


def test_a_damaged_run_is_taken_from_the_slice_that_holds_it_whole(parts: tuple[Path, Path], tmp_path: Path) -> None:
    damaged = part(tmp_path / "damaged", [0])
    (damaged / "runs" / "unshaped" / "seed-0" / "metrics.jsonl").write_text("{}\n")
    assert {run.seed for run in load(damaged, parts[0]).of("unshaped")} == {0, 2}
    (missing,) = [each for each in load(damaged).missing if each.arm == "unshaped" and each.seed == 0]
    assert "changed since its end: metrics.jsonl has 3 bytes" in missing.reason
