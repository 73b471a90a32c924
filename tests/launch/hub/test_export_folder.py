"""A study, or a trained checkpoint with it, as a folder that is ready for a hub. Nothing is sent."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import yaml
from huggingface_hub import ModelCard
from launch_fakes import study as small_study
from rich.console import Console
from synthetic_study import HOSTILE, config, write_study
from typer.testing import CliRunner

import shaping
from launch.cli import app
from launch.errors import UserError
from launch.hub.export import export_run, export_study
from launch.slices.write import write_study as write_rows
from launch.study import run_study
from launch.tracking.progress import Display

NAMES = {"study-config.json", "verdicts.json", "arms.csv", "figures"}


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    claims = config().model_dump(mode="json")["claims"]
    claims["H1"]["statement"] = f"Constraints deceive {HOSTILE[3]} {HOSTILE[0]}"
    asked = type(config()).model_validate(config(seeds=2).model_dump(mode="json") | {"claims": claims})
    return write_study(tmp_path_factory.mktemp("exported") / "study", asked, updates=3, episodes=False)


def test_a_study_becomes_a_folder_that_can_be_opened_again(directory: Path, tmp_path: Path) -> None:
    told = export_study(directory, tmp_path / "folder")
    folder = tmp_path / "folder"
    assert {path.name for path in folder.iterdir()} == {"README.md", "rows", *NAMES} and "rows of 14 runs" in told
    again, first = shaping.open_study(folder), shaping.open_study(directory)
    assert again.verdicts().equals(first.verdicts()) and again.metrics().equals(first.metrics())
    verdicts = json.loads((folder / "verdicts.json").read_text())["verdicts"]
    assert [each["claim"] for each in verdicts] == ["H1", "H2", "H3", "H4"]
    with (folder / "arms.csv").open() as file:
        assert {row["arm"] for row in csv.DictReader(file)} == set(first.arms)
    _, front, text = (folder / "README.md").read_text().split("---\n", 2)
    assert yaml.safe_load(front)["configs"] == [{"config_name": "arms", "data_files": "arms.csv"}]
    assert "<script>" not in text and str(tmp_path) not in text
    for picture in (folder / "figures").iterdir():
        assert f"figures/{picture.name}" in text
    with pytest.raises(UserError, match="exists already"):
        export_study(directory, folder)


def test_rows_are_exported_as_well(directory: Path, tmp_path: Path) -> None:
    write_rows(directory, tmp_path / "kept" / "rows")
    done = CliRunner().invoke(app, ["export", str(tmp_path / "kept"), str(tmp_path / "folder")])
    assert done.exit_code == 0, done.exception
    assert (tmp_path / "folder" / "rows" / "unshaped" / "seed-0.json").read_bytes() == (
        tmp_path / "kept" / "rows" / "unshaped" / "seed-0.json"
    ).read_bytes()


def test_a_checkpoint_comes_with_a_card_that_the_hub_reads(tmp_path: Path) -> None:
    asked = small_study(tmp_path / "runs", {"unshaped": ""}, seeds=1)
    done = run_study(asked, trainer="hub_trainer:train", display=Display(Console(quiet=True)))
    run = done.directory / "runs" / "unshaped" / "seed-0"
    export_run(run, tmp_path / "folder")
    folder = tmp_path / "folder"
    assert (folder / "model.safetensors").read_bytes() == (run / "checkpoint" / "model.safetensors").read_bytes()
    assert {path.name for path in (folder / "results").iterdir()} >= NAMES - {"figures"}
    card = ModelCard.load(folder / "README.md")
    assert card.data.library_name == "transformers"
    assert {each.metric_type: each.metric_value for each in card.data.eval_results or []}["deception"] == 0.25
    assert "do not deploy it" in card.text and "## Results of the study" in card.text
    assert str(tmp_path) not in card.content
    with pytest.raises(UserError, match="is not a run directory"):
        export_run(run.parent, tmp_path / "other")
    assert not (tmp_path / "other").exists()
