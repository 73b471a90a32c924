"""An arm may sit differently: `set` reaches `seats`, and what follows from it is checked for this arm alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from launch.config.loading import load_study
from launch.errors import ConfigError

STUDY = """
name: seated
seeds: 1
train:
  worlds: {market: {rounds: 2}}
  updates: 1
  groups: 1
  group_size: 2
learner: {lora: {rank: 2}}
seats:
  players: {seller_1: {}, seller_2: {}, seller_3: {learns: 0, opponents: {plain: 1}}}
eval: {worlds: {clerk: {size: 2}}, episodes: 1}
arms:
  shared: {role: reference}
  told: {role: treatment, set: {"seats.players.*.context": you sell .}}
  apart: {role: treatment, set: {seats.players.seller_1.adapter: own}}
  alone:
    role: control
    set: {seats.players: {seller_1: {}, seller_2: {learns: 0, opponents: {plain: 1}}}}
"""


def test_what_an_arm_sets_holds_for_its_own_runs(tmp_path: Path) -> None:
    (tmp_path / "seated.yaml").write_text(STUDY)
    runs = {run.arm: run for run in load_study(tmp_path / "seated.yaml").runs()}
    seats = {arm: run.seats for arm, run in runs.items() if run.seats}
    assert {arm: list(own.learned.values()) for arm, own in seats.items()} == {
        "shared": ["", ""], "told": ["", ""], "apart": ["own", ""], "alone": [""],
    }  # fmt: skip
    assert {arm: {seat.context for seat in own.players.values()} for arm, own in seats.items()} == {
        "shared": {""}, "told": {"you sell ."}, "apart": {""}, "alone": {""},
    }  # fmt: skip


def test_seats_that_cannot_be_are_refused_with_the_arm(tmp_path: Path) -> None:
    text = STUDY.replace("set: {seats.players.seller_1.adapter: own}", "set: {seats.players.seller_3.adapter: own}")
    (tmp_path / "seated.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"arms\.apart\.set:\n.*adapter 'own' would never be trained here"):
        load_study(tmp_path / "seated.yaml").runs()
