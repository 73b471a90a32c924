"""What a study may start from: a model directory, an organism, or a model of the hub."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from launch.config.loading import load_study, parse_study
from launch.config.model import OrganismModel, Organisms, OrganismSeries, ShippedModel
from launch.errors import ConfigError, UserError
from launch.run.models import start_model as module
from launch.run.models.start_model import check_model, present_model, start_model
from shaping.organisms import shipped as shipped_module
from shaping.organisms.card import write_card
from shaping.organisms.config import OrganismConfig


def test_a_model_directory_is_taken_as_it_is(model: Path) -> None:
    assert start_model(str(model)) == model
    check_model(str(model))


@pytest.mark.parametrize(
    ("file", "content", "told"),
    [
        ("config.json", "{}", "config.json cannot be loaded: ValueError"),
        ("tokenizer.json", "{}", "the tokenizer cannot be loaded: "),
        ("generation_config.json", '{"max_new_tokens": -1}', "generation_config.json cannot be loaded: ValueError"),
    ],
)
@pytest.mark.parametrize("check", [start_model, check_model])
def test_a_model_that_could_not_be_saved_is_refused_before_training(
    model: Path, tmp_path: Path, file: str, content: str, told: str, check: Callable[[str], object]
) -> None:
    own = shutil.copytree(model, tmp_path / "own")
    (own / file).write_text(content)
    with pytest.raises(ConfigError, match=f"^model: {own}: {told}") as raised:
        check(str(own))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["nowhere", "./no/where", "/no/where", "a/b/c"])
def test_a_path_without_a_model_is_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"^model: .*where|c is not a Hugging Face model directory"):
        start_model(name)


def test_an_organism_is_made_with_its_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[OrganismConfig] = []
    monkeypatch.setattr(module, "ensure", lambda config, progress: asked.append(config) or Path("made"))
    assert start_model(OrganismModel(organism=OrganismConfig(steps=3))) == Path("made")
    assert asked == [OrganismConfig(steps=3)]


def test_a_shipped_organism_is_found_and_nothing_is_made(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, model: Path
) -> None:
    for number in (0, 1):
        own = shutil.copytree(model, tmp_path / f"organism-{number}")
        write_card(own, OrganismConfig(seed=number), {})
    monkeypatch.setattr(module, "shipped", lambda number: tmp_path / f"organism-{number}")
    for find in (start_model, present_model):
        assert find(ShippedModel(shipped=1)) == tmp_path / "organism-1"
    check_model(ShippedModel(shipped=1))
    (tmp_path / "organism-1" / "config.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"^model: the organism organism-1 of this package has changed .*config.json"):
        start_model(ShippedModel(shipped=1))


@pytest.mark.parametrize("find", [start_model, present_model, check_model])
def test_an_organism_that_the_package_lacks_is_told_before_anything_starts(
    find: Callable[[ShippedModel], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shipped_module, "WEIGHTS", Path("nowhere"))
    with pytest.raises(ConfigError, match=r"^model: organism 2 of 4 is not in this package .*organism: \{\}"):
        find(ShippedModel(shipped=2))


def test_a_cache_that_cannot_be_written_names_its_variable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("SHAPING_CACHE", str(tmp_path / "file"))
    with pytest.raises(UserError, match=f"model: the cache of organisms, {tmp_path}/file.*set SHAPING_CACHE"):
        start_model(OrganismModel(organism=OrganismConfig(steps=1)))


def test_a_hub_id_that_cannot_be_fetched_names_id_and_remedy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ConfigError, match=r"model: nobody/nothing .*HF_HOME.*give its directory"):
        start_model("nobody/nothing")


def test_a_hub_id_is_found_in_the_hubs_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, model: Path) -> None:
    snapshot = tmp_path / "models--some--model" / "snapshots" / "abc"
    shutil.copytree(model, snapshot)
    (tmp_path / "models--some--model" / "refs").mkdir()
    (tmp_path / "models--some--model" / "refs" / "main").write_text("abc")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert start_model("some/model") == snapshot


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({"organism": {"steps": 3}}, r"organism was renamed: write model \(a directory, a hub id, or"),
        ({"organism": {"model": "here"}}, "organism was renamed: write model"),
        ({"learner": {"credit": "turn"}}, r"learner\.credit was renamed: write learner\.advantage_level"),
        ({"learner": {"average": "token"}}, r"write learner\.loss_aggregation"),
        ({"learner": {"critic": {"lam": 0.5}}}, r"write learner\.critic\.gae_lambda"),
        ({"learner": {"kl_context": "acting"}}, r"learner\.kl_context: 'acting' was renamed: write 'sampling'"),
        ({"train": {"learners": {"ranks": 2}}}, r"write train\.learner_group"),
        ({"arms": {"a": {"reward": "Outcome"}}}, r"arms\.a\.reward: Outcome was renamed: write EnvReward"),
        (
            {"arms": {"a": {"interventions": [{"use": "Inoculation", "at": "update"}]}}},
            r"arms\.a\.interventions\.0\.at: 'update' was renamed: write 'training'",
        ),
        (
            {"arms": {"a": {"interventions": [{"use": "Recontextualization", "generation": "neutral"}]}}},
            r"arms\.a\.interventions\.0\.generation was renamed: write sampling",
        ),
    ],
)
def test_old_names_are_refused_with_the_new_one(old: dict[str, object], new: str) -> None:
    with pytest.raises(ConfigError, match=f"^my.yaml: .*{new}"):
        parse_study({"name": "s", **old}, "my.yaml")


def test_an_override_under_an_old_name_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"organism was renamed: write model"):
        load_study("quickstart", ["organism.steps=5"])
    asked = load_study("quickstart", ["model={organism: {}}", "model.organism.steps=5"]).model
    assert asked == Organisms(organism=OrganismSeries(steps=5))
    assert load_study("quickstart", ["model=here"]).model == "here"
