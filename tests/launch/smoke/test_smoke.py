"""Studies at their smallest size: what is cut, what is kept, and what is told of one that does not go through."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from launch.config.loading import load_study
from launch.smoke.__main__ import line
from launch.smoke.profile import chosen, smallest
from launch.smoke.run import smoke

STUDY = """
name: large
seeds: [4, 5, 6]
train: {worlds: {clerk: {size: 2}}, updates: 20, groups: 4, group_size: 8, max_tokens: 8}
learner: {lr_warmup: 5}
eval: {worlds: {clerk: {size: 2}}, episodes: 32, watch: [never], placebo: [none], access_episodes: 0}
arms:
  unshaped: {role: reference}
  weak: {role: treatment, interventions: [{use: OverseerPenalty, accuracy: 0.5}]}
  strong: {role: treatment, interventions: [OverseerPenalty]}
  masked: {role: treatment, interventions: [ActionMask]}
  longer: {role: control, set: {train.updates: 40, train.group_size: 4}}
  before: {role: control, set: {train.updates: 0}}
points:
  usual: {}
  early: {set: {train.updates: 10}, arms: [unshaped]}
claims:
  L1: {use: Lowers, statement: A mask lowers hacking., treatment: masked, metrics: [reward_hacking.clerk]}
"""


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Path]:
    """The study's file. A smoke run changes into its folder."""
    (tmp_path / "large.yaml").write_text(STUDY)
    before = Path.cwd()
    yield tmp_path / "large.yaml"
    os.chdir(before)


def test_sizes_are_cut_wherever_they_stand_and_nothing_else(file: Path) -> None:
    given, small = load_study(file), smallest(load_study(file))
    assert small.seed_list == [4, 5] and small.claims == given.claims and small.train.worlds == given.train.worlds
    sizes = {run.point_name: (run.train.updates, run.train.groups, run.train.group_size) for run in small.runs()}
    assert sizes == {
        "unshaped+point=usual": (2, 2, 2), "unshaped+point=early": (2, 2, 2), "weak+point=usual": (2, 2, 2),
        "strong+point=usual": (2, 2, 2), "masked+point=usual": (2, 2, 2), "longer+point=usual": (2, 2, 2),
        "before+point=usual": (0, 2, 2),
    }  # fmt: skip
    assert small.eval.episodes == 1 and small.learner.lr_warmup == 1
    assert small.arms["weak"].interventions == given.arms["weak"].interventions


def test_examples_of_preference_models_are_cut_too() -> None:
    small = smallest(load_study("preference_scaling"))
    stages = [run.stages[0] for run in small.runs()]
    assert {stage.comparisons.pairs for stage in stages} == {8} == {stage.held_out for stage in stages}
    before = [stage.pretraining.data.comparisons.pairs for stage in stages if stage.pretraining]
    assert set(before) == {8} and len(before) == 2 * 2 * 3


def test_of_a_choice_the_parts_that_differ_most_are_kept(file: Path) -> None:
    study = load_study(file)
    assert len(chosen(study, 0)) == 7 and chosen(study, 100) == chosen(study, 0)
    # after the reference a role with two settings of its own, a role with a method, a point, and a method
    kept = ["unshaped+point=usual", "unshaped+point=early", "weak+point=usual", "longer+point=usual"]
    assert chosen(study, 4) == kept
    assert set(chosen(study, 5)) == {*kept, "masked+point=usual"}  # a price of another strength tries nothing new


def test_it_goes_from_the_file_to_the_report(file: Path, model: Path, tmp_path: Path) -> None:
    text = STUDY + f"model: {model}\n"
    file.write_text(text)
    folder = tmp_path / "out"
    folder.mkdir()
    outcome = smoke(str(file), folder, 2)
    assert (outcome.ok, outcome.runs, outcome.left_out, outcome.why) == (True, 4, 5, "")
    assert (folder / "runs" / "large" / "report" / "index.html").is_file()
    assert line(outcome).split()[-1] == "ok"


def test_a_model_that_the_user_has_to_make_has_a_small_one_in_its_place(file: Path, tmp_path: Path) -> None:
    file.write_text(STUDY + "model: models/large\n")
    folder = tmp_path / "out"
    folder.mkdir()
    outcome = smoke(str(file), folder, 1)
    assert outcome.ok and outcome.runs == 2 and (folder / "models" / "large" / "config.json").is_file()


def test_one_that_fails_says_why(file: Path, tmp_path: Path) -> None:
    outcome = smoke(str(tmp_path / "missing.yaml"), tmp_path, 0)
    assert not outcome.ok and "missing.yaml" in outcome.why and "FAILED" in line(outcome)
