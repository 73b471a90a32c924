"""A finished run's model is published with a card that says which run made it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from fake_hub import FIRST, FakeHub
from hub_trainer import TRAINER
from launch_fakes import study
from rich.console import Console

from launch.errors import UserError
from launch.hub.card import model_card
from launch.hub.push import upload
from launch.run.models.load_policy import name_of
from launch.study import run_study
from launch.tracking.progress import Display


class Pushed:
    """What a stubbed client was asked to upload."""

    def __init__(self) -> None:
        self.repository: dict[str, Any] = {}
        self.files: dict[str, bytes] = {}
        self.title = ""


@pytest.fixture
def pushed(monkeypatch: pytest.MonkeyPatch, cache: Path) -> Pushed:
    kept = Pushed()

    def create_repo(_: object, name: str, **given: Any) -> None:
        kept.repository = {"name": name, **given}

    def create_commit(_: object, name: str, operations: list[Any], *, commit_message: str, revision: str) -> Any:
        assert name == kept.repository["name"]
        kept.title = commit_message
        for operation in operations:
            with operation.as_file() as file:
                kept.files[operation.path_in_repo] = file.read()
        return type("Done", (), {"commit_url": f"https://hub/{name}/commit/1"})

    monkeypatch.setattr("huggingface_hub.HfApi.create_repo", create_repo)
    monkeypatch.setattr("huggingface_hub.HfApi.create_commit", create_commit)
    return kept


@pytest.fixture
def finished(hub: FakeHub, model: Path, tmp_path: Path) -> Path:
    hub.add("some/model", model)
    config = study(tmp_path / "runs", {"unshaped": ""}, model="some/model", seeds=1)
    done = run_study(config, trainer=TRAINER, display=Display(Console(quiet=True)))
    return done.directory / "runs" / "unshaped" / "seed-0"


def test_the_checkpoint_is_uploaded_with_a_card(finished: Path, pushed: Pushed, tmp_path: Path) -> None:
    told: list[str] = []
    where = upload(finished, "me/trained", private=True, note=told.append)
    assert where == "https://hub/me/trained/commit/1" and "me/trained" in told[0]
    assert pushed.repository == {"name": "me/trained", "private": True, "exist_ok": True}
    assert pushed.title == "small, unshaped, seed 0"
    assert set(pushed.files) == {"README.md", "config.json", "model.safetensors"}
    assert pushed.files["model.safetensors"] == (finished / "checkpoint" / "model.safetensors").read_bytes()
    card = pushed.files["README.md"].decode()
    _, front, text = card.split("---\n", 2)
    assert yaml.safe_load(front)["base_model"] == "some/model"
    run = study(tmp_path / "runs", {"unshaped": ""}, model="some/model", seeds=1).runs()[0]
    for fact in ("| study | small |", "(`unshaped`, reference)", "| seed | 0 |", f"`{run.digest}`", "do not deploy"):
        assert fact in text
    assert f"model at commit `{FIRST}`" in text
    assert "| deception | 0.250 |" in text and "made_up" not in text
    assert str(tmp_path) not in card


def test_a_card_of_adapters_says_where_they_belong(tmp_path: Path) -> None:
    run = study(tmp_path / "runs", {"unshaped": ""}, model="some/model@main", seeds=1).runs()[0]
    run = run.model_copy(update={"commit": FIRST})
    _, front, text = model_card(run, {"commit": FIRST}, {}, ["adapters/kept"]).split("---\n", 2)
    assert yaml.safe_load(front) | {"tags": []} == {
        "library_name": "peft",
        "pipeline_tag": "text-generation",
        "tags": [],
        "base_model": "some/model",
    }
    assert "`adapters/kept`" in text and "no whole model" in text
    assert name_of(run) == "some/model", "peft takes no revision as a part of the name"


def test_only_a_finished_run_is_uploaded(finished: Path, pushed: Pushed) -> None:
    (finished / "checkpoint" / "config.json").write_text("changed")
    with pytest.raises(UserError, match=r"has changed since its end: checkpoint/config\.json"):
        upload(finished, "me/trained", private=False)
    (finished / "result.json").unlink()
    with pytest.raises(UserError, match="is not finished; run its study again"):
        upload(finished, "me/trained", private=False)
    with pytest.raises(UserError, match="is not a run directory"):
        upload(finished.parent, "me/trained", private=False)
    assert pushed.files == {}


@pytest.mark.parametrize("name", ["trained", "me/trained@main", "/me/trained"])
def test_the_name_of_a_repository_is_checked_first(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="write OWNER/NAME"):
        upload(tmp_path, name, private=False)


def test_what_the_hub_says_is_told(finished: Path, hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"me/trained could not be uploaded to http://127\.0\.0\.1"):
        upload(finished, "me/trained", private=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=r"in offline mode: unset HF_HUB_OFFLINE"):
        upload(finished, "me/trained", private=False)
