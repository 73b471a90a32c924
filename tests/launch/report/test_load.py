"""A study directory is read as it is: what is missing is attrition, what is foreign is refused with a remedy."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from crafted_studies import in_result
from synthetic_study import config, write_study

from launch.report.files.load import ArmInfo, StudyDirectoryError, load
from launch.storage.rundir import RunDirectory

SMALL = config(seeds=2)


@pytest.fixture
def study(tmp_path: Path) -> Path:
    return write_study(tmp_path / "study", SMALL, episodes=False, updates=5)


def test_a_whole_study_has_every_arm_in_the_order_of_the_config(study: Path) -> None:
    found = load(study)
    assert list(found.arms) == list(SMALL.arms)
    assert len(found.runs) == 14
    assert not found.missing
    assert found.held_out_worlds == ("clerk",)


@pytest.mark.parametrize("kind", ["absent", "empty", "foreign", "another program's", "newer", "truncated", "invalid"])
def test_what_is_no_study_is_refused_by_its_path_and_with_a_remedy(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "thing"
    if kind != "absent":
        path.mkdir()
    if kind == "foreign":
        (path / "holiday.jpg").write_bytes(b"x")
    texts = {
        "another program's": '{"name": "x"}',
        "newer": '{"format": "shaping-study", "version": 2}',
        "truncated": '{"format": "shaping-st',
        "invalid": '{"format": "shaping-study", "version": 1, "config": {"name": "x"}}',
    }
    if kind in texts:
        (path / "study.json").write_text(texts[kind])
    with pytest.raises(StudyDirectoryError) as caught:
        load(path)
    assert str(path) in str(caught.value)
    assert (
        "shaping study" in str(caught.value)
        or "run the study again" in str(caught.value)
        or "version" in str(caught.value)
    )


def test_a_study_without_a_complete_run_has_nothing_to_report(tmp_path: Path) -> None:
    small = config(seeds=1)
    path = write_study(
        tmp_path / "study", small, episodes=False, updates=2, unfinished=[(arm, 0) for arm in small.arms]
    )
    with pytest.raises(StudyDirectoryError, match=r"no complete run.*run the study again"):
        load(path)


def test_runs_that_are_not_whole_are_missing_with_their_reason(tmp_path: Path) -> None:
    path = write_study(
        tmp_path / "study",
        SMALL,
        episodes=False,
        updates=5,
        unfinished=[("inoculation", 1)],
        absent=[("action_mask", 0)],
    )
    cut = path / "runs" / "unshaped" / "seed-1" / "metrics.jsonl"
    cut.write_text(cut.read_text()[:-20])
    (path / "runs" / "random_reward" / "seed-0" / "result.json").write_text('{"format"')
    shutil.copytree(path / "runs" / "unshaped" / "seed-0", path / "runs" / "unshaped" / "seed-0.set-aside-1")
    found = load(path)
    reasons = {(m.arm, m.seed): m.reason for m in found.missing}
    assert reasons.keys() == {("inoculation", 1), ("action_mask", 0), ("unshaped", 1), ("random_reward", 0)}
    assert "not started" in reasons["action_mask", 0]
    assert "interrupted" in reasons["inoculation", 1]
    assert "changed since its end: metrics.jsonl has" in reasons["unshaped", 1]
    assert len(found.runs) == 10


def test_an_arm_is_compared_with_the_unshaped_arm_at_its_point_of_the_axes(tmp_path: Path) -> None:
    axes = {"train.groups": [2, 4], "arms.random_reward.label": ["a", "b"]}
    found = load(write_study(tmp_path / "study", config(seeds=1, axes=axes), episodes=False, updates=2))
    arm = found.arms["random_reward+groups=4+label=b"]
    reference = found.reference(arm)
    assert len(found.references) == 2
    assert reference is not None
    assert reference.name == "unshaped+groups=4"


def test_what_an_arm_is_for_comes_from_its_record_and_never_from_its_name(tmp_path: Path) -> None:
    arms = {
        "random_reward": {"role": "reference"},
        "inoculation": {"role": "control"},
        "irrelevant_prompt": {"role": "treatment"},
        "unshaped": {"role": "positive_control"},
    }
    path = write_study(
        tmp_path / "study", config(seeds=1, arms=arms), episodes=False, updates=2, absent=[("inoculation", 0)]
    )
    found = load(path)
    assert {name: arm.role for name, arm in found.arms.items()} == {name: arm["role"] for name, arm in arms.items()}
    assert [arm.name for arm in found.references] == ["random_reward"]
    assert [arm.group for arm in found.arms.values()] == ["unshaped", "control", "motivation", "control"]


def test_a_run_whose_arm_has_no_role_is_of_another_version(study: Path) -> None:
    directory = RunDirectory(study / "runs" / "unshaped" / "seed-0")
    config, result = directory.config(), directory.result()
    config["arm_config"]["role"] = "irrelevant_control"
    shutil.rmtree(directory.path)
    directory.create(config, {})
    directory.evaluation([])
    directory.finish({**result, "updates": 0, "role": "irrelevant_control"})
    (missing,) = load(study).missing
    assert (missing.arm, missing.seed) == ("unshaped", 0)
    assert "no role" in missing.reason


def test_every_seed_has_its_subject_also_in_results_that_name_none(tmp_path: Path) -> None:
    series = config(seeds=3, model={"organism": {"seeds": 2, "seed": 4}})
    path = write_study(tmp_path / "study", series, episodes=False, updates=2)
    assert load(path).subjects == {0: "organism-4", 1: "organism-5", 2: "organism-4"}
    for run in (path / "runs").glob("*/seed-2"):
        in_result(lambda result: result.update(subject="organism-9"))(run)
    assert load(path).subjects == {0: "organism-4", 1: "organism-5", 2: "organism-9"}


def test_runs_of_one_seed_that_started_from_two_models_are_refused(study: Path) -> None:
    in_result(lambda result: result.update(subject="organism-3"))(study / "runs" / "inoculation" / "seed-1")
    with pytest.raises(
        StudyDirectoryError,
        match=r"the runs of seed 1 did not start from one model: unshaped from organism-0, inoculation from organism-3",
    ):
        load(study)


def test_where_an_axis_sets_the_model_a_seed_has_several(tmp_path: Path) -> None:
    varied = config(seeds=1, axes={"model": ["/models/small", "/models/large"]})
    found = load(write_study(tmp_path / "study", varied, episodes=False, updates=2))
    assert found.subjects == {0: "small / large"}


def test_a_subject_that_is_no_text_costs_its_run(study: Path) -> None:
    in_result(lambda result: result.update(subject=["organism-0"]))(study / "runs" / "inoculation" / "seed-1")
    (missing,) = load(study).missing
    assert (missing.arm, missing.seed) == ("inoculation", 1) and "result.json: subject: " in missing.reason


def test_the_name_of_an_arm_says_what_a_reader_must_know() -> None:
    arm = ArmInfo("penalty", "Penalty", "constraint", oracle=True, spent_monitors=("probe",))
    assert "oracle" in arm.title
    assert "trained against monitor probe" in arm.title
