"""Replicates: which model each seed of a study starts from."""

from __future__ import annotations

from pathlib import Path

import pytest
from launch_fakes import study

from launch.config.model import OrganismModel, ShippedModel
from launch.config.study import RunConfig, StudyConfig
from launch.errors import ConfigError
from launch.run.models.origin import model_key
from shaping.organisms.config import OrganismConfig
from shaping.organisms.shipped import COUNT


def config(here: Path, model: object, **changes: object) -> StudyConfig:
    return study(here, {"unshaped": "", "mask": ""}, model=model, **changes)


def test_replicates_take_turns_over_organisms_that_differ_in_their_seeds_alone(tmp_path: Path) -> None:
    runs = config(tmp_path, {"organism": {"seeds": 3, "seed": 5, "steps": 7}}, seeds=7).runs()
    starts = {run.seed: run.model for run in runs}
    assert starts == {r: OrganismModel(organism=OrganismConfig(seed=5 + r % 3, steps=7)) for r in range(7)}
    assert {run.seed: run.subject for run in runs} == {r: f"organism-{5 + r % 3}" for r in range(7)}
    assert len({model_key(run) for run in runs}) == 3, "each is made once"


def test_a_replicate_keeps_its_organism_when_the_study_grows_or_runs_in_part(tmp_path: Path) -> None:
    model = {"organism": {"seeds": 4}}
    small, large = (config(tmp_path, model, seeds=seeds).runs() for seeds in ([6, 1], 12))
    assert {run.digest for run in small} < {run.digest for run in large}


def test_the_digest_of_a_run_is_that_of_its_own_organism(tmp_path: Path) -> None:
    first = {run.seed: run.digest for run in config(tmp_path, {"organism": {"seeds": 2}}).runs() if run.arm == "mask"}
    moved = config(tmp_path, {"organism": {"seed": 1}}, seeds=[1]).runs()
    assert [run.digest for run in moved if run.arm == "mask"] == [first[1]]
    assert RunConfig.model_validate(moved[0].model_dump(mode="json")) == moved[0]


def test_by_default_replicates_take_turns_among_the_shipped_organisms(tmp_path: Path) -> None:
    runs = study(tmp_path, {"unshaped": ""}, seeds=5).runs()
    assert [run.model for run in runs] == [ShippedModel(shipped=number) for number in (0, 1, 2, 3, 0)]


def test_shipped_organisms_take_turns_too(tmp_path: Path) -> None:
    runs = config(tmp_path, {"organism": "shipped"}, seeds=COUNT + 1).runs()
    assert {run.seed: run.model for run in runs} == {r: ShippedModel(shipped=r % COUNT) for r in range(COUNT + 1)}
    assert runs[-1].subject == "organism-0"


def test_other_models_go_by_their_name_without_their_place(tmp_path: Path) -> None:
    subjects = [config(tmp_path, name).runs()[0].subject for name in ("Qwen/Qwen3-0.6B", "/models/mine/", "mine")]
    assert subjects == ["Qwen3-0.6B", "mine", "mine"]


def test_an_axis_may_set_the_organism(tmp_path: Path) -> None:
    runs = config(tmp_path, {"organism": {"seeds": 2}}, axes={"model.organism.hidden": [64, 128]}).runs()
    assert {(run.seed, run.model.organism.hidden, run.model.organism.seed) for run in runs} == {
        (seed, hidden, seed) for seed in (0, 1) for hidden in (64, 128)
    }


@pytest.mark.parametrize(
    ("model", "told"),
    [
        ({"organism": {"seeds": 0}}, r"model\.organism\.seeds: .*greater than or equal to 1 \(got 0\)"),
        ({"organism": {"seeds": -4}}, r"model\.organism\.seeds: .*greater than or equal to 1"),
        ({"organism": {"seeds": True}}, r"model\.organism\.seeds: write a number, not true"),
        ({"organism": {"seed": 2**32 - 1, "seeds": 2}}, r"model\.organism: seed 4,294,967,295 and 2 seeds lead beyond"),
        ({"organism": "ship"}, r"model\.organism: Input should be 'shipped' \(got 'ship'\)"),
        ({"organism": {"hiden": 64}}, r"model\.organism\.hiden: unknown key \(did you mean 'hidden'\?\)"),
        ({"organism": {}, "seeds": 4}, r"model\.seeds: unknown key"),
        ("", r"model: String should have at least 1 character"),
    ],
)
def test_bad_input_is_one_line_that_names_the_key(tmp_path: Path, model: object, told: str) -> None:
    with pytest.raises(ConfigError, match=told) as raised:
        config(tmp_path, model)
    assert len(str(raised.value).removeprefix("test:\n").splitlines()) == 1, str(raised.value)
