"""All runs of a study start from one commit, also those that are made after the branch has moved on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from fake_hub import FIRST, SECOND, FakeHub
from hub_trainer import TRAINER
from launch_fakes import study
from spoken_lines import Lines

from launch.config.loading import parse_study
from launch.config.model import HubModel, hub_model, subject_of
from launch.config.study import StudyConfig
from launch.errors import ConfigError, RunDirectoryError
from launch.hub.pins import pin, pinned, read_pins
from launch.storage.rundir import RunDirectory
from launch.study import run_study

NAME = "some/model"


def config(folder: Path, **changes: Any) -> StudyConfig:
    return study(folder / "runs", {"unshaped": ""}, **{"model": NAME, **changes})


def made(directory: Path, seed: int) -> dict[str, Any]:
    return RunDirectory(directory / "runs" / "unshaped" / f"seed-{seed}").record()


def other(model: Path, path: Path) -> Path:
    """The model with one weight changed."""
    shutil.copytree(model, path)
    data = bytearray((path / "model.safetensors").read_bytes())
    data[-8] ^= 1
    (path / "model.safetensors").write_bytes(data)
    return path


def test_a_study_keeps_the_commit_that_it_began_with(hub: FakeHub, model: Path, tmp_path: Path) -> None:
    hub.add(NAME, model)
    first = run_study(config(tmp_path), seeds=[0], trainer=TRAINER, display=Lines())
    assert made(first.directory, 0)["commit"] == FIRST
    hub.add(NAME, other(model, tmp_path / "moved"), SECOND)
    again = run_study(config(tmp_path), trainer=TRAINER, display=Lines())
    assert (again.kept, again.finished) == (["unshaped/seed-0"], ["unshaped/seed-1"])
    one, two = made(first.directory, 0), made(first.directory, 1)
    assert two["commit"] == FIRST and two["model"] == one["model"]
    assert one["config"]["model"] == NAME and "commit" not in one["config"]
    new = run_study(config(tmp_path, name="later"), seeds=[0], trainer=TRAINER, display=Lines())
    assert made(new.directory, 0)["commit"] == SECOND
    assert made(new.directory, 0)["model"] != one["model"]


def test_a_study_resumes_without_the_hub(
    hub: FakeHub, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add(NAME, model)
    run_study(config(tmp_path), seeds=[0], trainer=TRAINER, display=Lines())
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    hub.asked.clear()
    assert run_study(config(tmp_path), trainer=TRAINER, display=Lines()).finished == ["unshaped/seed-1"]
    assert hub.asked == []


def test_nothing_starts_where_the_hub_says_no(hub: FakeHub, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no model of that name"):
        run_study(config(tmp_path), trainer=TRAINER, display=Lines())
    assert not (tmp_path / "runs").exists()


def test_that_a_folder_is_meant_is_told(
    cache: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(model, tmp_path / NAME)
    lines = Lines()
    done = run_study(config(tmp_path), seeds=[0], trainer=TRAINER, display=lines)
    assert [line for line in lines.said if "some/model is the folder" in line]
    assert "commit" not in made(done.directory, 0)


def test_pins(tmp_path: Path) -> None:
    named = HubModel(hub=NAME, revision="x")
    assert read_pins(tmp_path) == {} and pinned(named, {}) == named
    pin(tmp_path, named, FIRST)
    pin(tmp_path, named, SECOND)
    pin(tmp_path, HubModel(hub=NAME, revision=SECOND), SECOND)
    assert read_pins(tmp_path) == {"some/model@x": FIRST}
    assert pinned(named, read_pins(tmp_path)) == HubModel(hub=NAME, revision=FIRST)
    assert pinned(HubModel(hub=NAME), read_pins(tmp_path)) == HubModel(hub=NAME)


@pytest.mark.parametrize("text", ["{", "[]", '{"some/model": "main"}', '{"some/model": 3}'])
def test_pins_that_are_damaged_are_told(text: str, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "hub-commits.json").write_text(text)
    with pytest.raises(RunDirectoryError, match=r"hub-commits\.json is damaged"):
        read_pins(tmp_path)


# -- how a study says it -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "subject"),
    [
        (NAME, "model"),
        (f"{NAME}@v1", "model@v1"),
        (f"{NAME}@{FIRST}", "model@aaaaaaaa"),
        ({"hub": NAME}, "model"),
        ({"hub": NAME, "revision": "refs/pr/4"}, "model@refs-pr-4"),
        ("models/own", "own"),
        ("./models/own@v1", "own@v1"),
    ],
)
def test_a_study_names_a_model_in_several_ways(written: Any, subject: str, tmp_path: Path) -> None:
    (run,) = config(tmp_path, model=written, seeds=1).runs()
    assert run.subject == subject == subject_of(run.model)
    document = run.model_dump(mode="json")
    assert json.loads(json.dumps(document)) == document
    assert document["model"] == (written if isinstance(written, str) else {"revision": None, **written})


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ({"hub": "no owner"}, r"model\.hub: .*pattern"),
        ({"revision": "main"}, r"model\.hub: this key is required"),
        ({"hub": NAME, "revisions": "x"}, r"model\.revisions: unknown key \(did you mean 'revision'"),
        ({"hub": NAME, "revision": ""}, r"model\.revision: "),
    ],
)
def test_what_is_no_model_is_refused_with_its_key(written: Any, told: str, tmp_path: Path) -> None:
    document = config(tmp_path, model="m/n").model_dump(mode="json")
    with pytest.raises(ConfigError, match=told):
        parse_study({**document, "model": written}, "test")


@pytest.mark.parametrize("name", ["gpt2", "a/b/c", "/a/b", "./a", "~/a", "a/b@", "a b/c", "../a"])
def test_these_are_paths(name: str) -> None:
    assert hub_model(name) is None
