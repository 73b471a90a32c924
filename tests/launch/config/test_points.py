"""Points: named sweep points for chosen arms, where axes would multiply too much."""

from __future__ import annotations

from pathlib import Path

import pytest

from launch.config.loading import load_study, to_yaml
from launch.errors import ConfigError
from launch.report.claims.arms import axis_values

STAR = """
name: star
seeds: 2
train: {worlds: {steward: {size: 4}}, updates: 4, groups: 2, group_size: 4}
eval: {worlds: {clerk: {}}}
arms:
  unshaped: {role: reference}
  weak: {role: treatment, interventions: [{use: OverseerPenalty, weight: 0.5}]}
  strong: {role: treatment, interventions: [{use: OverseerPenalty, weight: 2}]}
points:
  usual: {}
  short: {set: {train.worlds.steward.size: 2, train.updates: 2}, arms: [unshaped, strong]}
  night: {set: {train.worlds: {nightwatch: {size: 6}}}, arms: [unshaped, weak]}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "star.yaml"
    path.write_text(STAR)
    return path


def message(file: Path, *overrides: str) -> str:
    with pytest.raises(ConfigError) as raised:
        load_study(file, overrides).runs()
    return str(raised.value)


def test_every_arm_runs_at_the_points_that_list_it(file: Path) -> None:
    names = [run.point_name for run in load_study(file).runs() if run.seed == 0]
    assert names == [
        *("unshaped+point=usual", "unshaped+point=short", "unshaped+point=night"),
        *("weak+point=usual", "weak+point=night"),
        *("strong+point=usual", "strong+point=short"),
    ]


def test_a_point_sets_all_of_its_keys_and_no_other(file: Path) -> None:
    runs = {run.point_name: run for run in load_study(file).runs()}
    assert runs["strong+point=short"].train.worlds == {"steward": {"size": 2}}
    assert runs["strong+point=short"].train.updates == 2
    assert runs["strong+point=usual"].train.worlds == {"steward": {"size": 4}}
    assert runs["weak+point=night"].train.worlds == {"nightwatch": {"size": 6}}  # replaced, not added
    assert runs["weak+point=night"].train.updates == 4


def test_axes_multiply_points(file: Path) -> None:
    runs = [run for run in load_study(file, ["axes={train.groups: [1, 2]}", "seeds=1"]).runs() if run.arm == "weak"]
    assert [run.sweep_point for run in runs] == [{"point": p, "groups": g} for p in ("usual", "night") for g in (1, 2)]


def test_claims_select_points_as_values_of_an_axis(file: Path) -> None:
    assert axis_values(load_study(file)) == {"point": ["usual", "short", "night"]}


def test_the_printed_config_keeps_its_points(file: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.yaml"
    copy.write_text(to_yaml(load_study(file)))
    assert load_study(copy) == load_study(file)


def test_mistakes_in_points_are_named(file: Path) -> None:
    assert "points.x.set: 'seeds' cannot be set" in message(file, "points.x={set: {seeds: 3}}")
    assert "points.x.arms: no arm 'strog' (did you mean 'strong'?)" in message(file, "points.x={arms: [strog]}")
    assert "the reference 'unshaped' is missing" in message(file, "points.x={arms: [strong]}")
    assert "arms.strong: none of the points lists this arm" in message(file, "points={a: {arms: [unshaped, weak]}}")
    assert "no axis can be called 'point'" in message(file, "axes={arms.weak.interventions.0.point: [1]}")
    assert "points.x" in (text := message(file, "points.x={set: {train.updates: -1}}")) and "updates" in text
    assert "train.wrlds" in message(file, "points.x={set: {train.wrlds.steward.size: 2}}")
