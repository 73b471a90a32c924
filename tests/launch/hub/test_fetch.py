"""A model of the hub is fetched without pickles, found in the cache, or refused in one sentence with a remedy."""

from __future__ import annotations

import json
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fake_hub import FIRST, SECOND, FakeHub
from launch_fakes import study

from launch.config.model import HubModel
from launch.errors import ConfigError
from launch.hub.fetch import cached, check_access, fetch
from launch.run.models.start_model import check_model, chosen_folder, on_hub, present_model, start_model
from launch.run.rendering import check_templates
from shaping.models.lora.base_reference import revision_of

NAME = "some/model"
MODEL = HubModel(hub=NAME)


@pytest.fixture
def published(hub: FakeHub, model: Path, tmp_path: Path) -> Path:
    """The folder of a model that is on the hub, with files that nobody should fetch."""
    folder = shutil.copytree(model, tmp_path / "published")
    for name in ("pytorch_model.bin", "modeling_own.py", "consolidated.safetensors"):
        (folder / name).write_bytes(b"not to be fetched")
    hub.add(NAME, folder)
    return folder


def test_weights_config_and_tokenizer_are_fetched_and_neither_pickles_nor_code(published: Path, cache: Path) -> None:
    path = start_model(NAME)
    assert path == cache / "models--some--model" / "snapshots" / FIRST and revision_of(path) == FIRST
    names = {file.name for file in path.iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= names
    assert not names & {"pytorch_model.bin", "modeling_own.py", "consolidated.safetensors"}
    assert (path / "model.safetensors").read_bytes() == (published / "model.safetensors").read_bytes()


def test_a_check_fetches_nothing(published: Path, hub: FakeHub, cache: Path) -> None:
    check_model(NAME)
    assert hub.asked and not [line for line in hub.asked if line.startswith("GET") and "resolve" in line]
    assert present_model(NAME) is None


@pytest.mark.parametrize("source", [f"{NAME}@step-5", HubModel(hub=NAME, revision="step-5")])
def test_a_revision_is_fetched(published: Path, hub: FakeHub, model: Path, source: str | HubModel) -> None:
    hub.add(NAME, model, SECOND, "step-5")
    check_model(source)
    assert revision_of(start_model(source)) == SECOND
    assert revision_of(start_model(NAME)) == FIRST


def test_a_commit_that_is_in_the_cache_is_not_asked_for(published: Path, hub: FakeHub) -> None:
    first = fetch(MODEL)
    hub.asked.clear()
    assert fetch(HubModel(hub=NAME, revision=FIRST)) == first
    assert hub.asked == []


def test_what_is_in_the_cache_is_found_offline(published: Path, hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    path = start_model(NAME)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    hub.asked.clear()
    check_model(NAME)
    assert start_model(NAME) == present_model(NAME) == path
    assert hub.asked == []


def test_a_part_of_a_model_in_the_cache_is_none(cache: Path, offline: None, model: Path) -> None:
    path = cache / "models--some--model" / "snapshots" / FIRST
    path.mkdir(parents=True)
    (cache / "models--some--model" / "refs").mkdir()
    (cache / "models--some--model" / "refs" / "main").write_text(FIRST)
    shutil.copy(model / "config.json", path)
    assert cached(MODEL) is None and present_model(NAME) is None
    with pytest.raises(ConfigError, match=r"only a part of some/model is in the cache .*it lacks \*\.safetensors"):
        check_access(MODEL)


def test_the_rest_of_a_part_is_fetched(published: Path, cache: Path, model: Path) -> None:
    path = cache / "models--some--model" / "snapshots" / FIRST
    path.mkdir(parents=True)
    shutil.copy(model / "config.json", path)
    assert start_model(NAME) == path and (path / "model.safetensors").is_file()


# -- what can go wrong, each before anything starts --------------------------------------------------------------------


def refusal(source: str | HubModel) -> str:
    """The sentence with which both the check and the start refuse a model."""
    told = set()
    for find in (check_model, start_model):
        with pytest.raises(ConfigError) as raised:
            find(source)
        told.add(str(raised.value))
    (one,) = told
    assert one.startswith("model: ") and "\n" not in one
    return one


def test_offline_with_an_empty_cache(offline: None, cache: Path) -> None:
    one = refusal(NAME)
    assert f"not in the cache {cache}" in one and "HF_HUB_OFFLINE=1" in one and "HF_HOME" in one
    assert "`hf download some/model`" in one
    assert "`hf download some/model --revision x`" in refusal(f"{NAME}@x")


def test_offline_by_the_variable_of_transformers(offline: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setenv("TRANSFORMERS_OFFLINE", "yes")
    assert "offline mode (TRANSFORMERS_OFFLINE=yes)" in refusal(NAME)


def test_no_network(point_to: Callable[[str], None]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
    point_to(address)
    one = refusal(NAME)
    assert f"{address} does not answer" in one and "refused" in one and "HF_ENDPOINT" in one


def test_an_id_that_does_not_exist(hub: FakeHub) -> None:
    one = refusal("nobody/nothing")
    assert "no directory nobody/nothing here and no model of that name" in one and "spelling" in one


def test_a_revision_that_does_not_exist(published: Path) -> None:
    assert "some/model has no revision 'step-7': choose a branch, tag or commit" in refusal(f"{NAME}@step-7")


def test_a_gated_model(published: Path, hub: FakeHub) -> None:
    hub.gated.add(NAME)
    one = refusal(NAME)
    assert f"some/model is gated: accept its terms at {hub.address}/some/model" in one and "HF_TOKEN" in one


def test_pickles_alone(hub: FakeHub, model: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(model, tmp_path / "pickled")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    hub.add(NAME, folder)
    with pytest.raises(ConfigError, match=r"no \*\.safetensors weights but pytorch_model\.bin, which may hold code"):
        check_model(NAME)
    with pytest.raises(ConfigError, match=r"some/model on the Hugging Face hub has no \*\.safetensors weights"):
        start_model(NAME)


def test_no_model_of_transformers(hub: FakeHub, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train.json").write_text("{}")
    hub.add(NAME, tmp_path / "data")
    assert "no model of transformers (it has no config.json)" in refusal(NAME)


def test_a_cache_that_cannot_be_written(published: Path, cache: Path) -> None:
    cache.write_text("a file")
    with pytest.raises(ConfigError, match=r"the cache of the Hugging Face hub, .* cannot be used .*set HF_HOME"):
        start_model(NAME)


def test_a_model_that_needs_its_own_code_is_refused_and_nobody_is_asked(model: Path, tmp_path: Path) -> None:
    own = shutil.copytree(model, tmp_path / "own")
    config = json.loads((own / "config.json").read_text())
    config |= {"model_type": "homemade", "auto_map": {"AutoConfig": "configuration_homemade.Config"}}
    (own / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match=r"needs code of its own \(auto_map in config\.json\), which is never run"):
        start_model(str(own))


def test_a_directory_that_lacks_weights_its_index_names(model: Path, tmp_path: Path) -> None:
    own = shutil.copytree(model, tmp_path / "own")
    (own / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "model-2.safetensors"}}))
    with pytest.raises(ConfigError, match=r"own lacks model-2\.safetensors"):
        start_model(str(own))


@pytest.mark.parametrize("source", [f"{NAME}", {"hub": NAME}])
def test_the_template_of_a_cached_model_is_looked_at_however_the_model_is_written(
    published: Path, hub: FakeHub, source: Any, tmp_path: Path
) -> None:
    start_model(MODEL)
    asked = study(tmp_path, {"unshaped": ""}, model=source, rollout={"chat_template_kwargs": {"no_such_argument": 1}})
    with pytest.raises(ConfigError, match=r"rollout\.chat_template_kwargs: .* does not read 'no_such_argument'"):
        check_templates(asked.runs())


# -- a name that is both a folder here and a model there ---------------------------------------------------------------


def test_a_folder_wins_over_the_hub_and_that_is_said(
    published: Path, hub: FakeHub, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert on_hub(NAME) == MODEL and chosen_folder(NAME) == ""
    shutil.copytree(model, tmp_path / NAME)
    assert start_model(NAME) == Path(NAME) and hub.asked == []
    assert f"some/model is the folder {tmp_path / NAME}" in chosen_folder(NAME)
    assert "write {hub: some/model}" in chosen_folder(NAME)
    assert revision_of(start_model(MODEL)) == FIRST and chosen_folder(MODEL) == ""
    (tmp_path / NAME / "config.json").unlink()
    with pytest.raises(ConfigError, match=r"\{hub: some/model\} for the model of that name on the hub"):
        start_model(NAME)
