"""`~` in a path of a config is the home directory: everywhere, and only at use, so that records hold no home."""

from __future__ import annotations

from pathlib import Path

import pytest
from launch_fakes import START_MODEL, TRAINER, results, study

from launch.config.reading.paths import expanded
from launch.errors import ConfigError
from launch.run.models.start_model import start_model
from launch.study import run_study


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


def test_a_study_goes_to_the_home_directory_and_its_record_does_not_name_it(home: Path) -> None:
    config = study(Path("~/runs"), {"arm": ""}, seeds=1)
    found = run_study(config, trainer=TRAINER, start_model=START_MODEL)
    assert found.directory == home / "runs" / "small" and list(results(found.directory)) == ["arm/seed-0"]
    assert not (home.parent / "~").exists()
    assert str(home) not in (found.directory / "study.json").read_text()


def test_a_model_is_found_in_the_home_directory(home: Path) -> None:
    with pytest.raises(ConfigError, match=f"model: {home}/nowhere is not a Hugging Face model directory"):
        start_model("~/nowhere")


def test_a_home_that_nobody_has_is_told() -> None:
    with pytest.raises(ConfigError, match="'~nobody-at-all/runs': no home directory is known"):
        expanded("~nobody-at-all/runs")
