"""`shaping preference`: settings, and a model from a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from scripted_episodes import groups

from launch.errors import ConfigError
from launch.preference.command import train_model
from launch.preference.settings import PreferenceConfig, Source, bundled_settings, read_settings
from rewards import PreferenceModel
from rewards.base import scored
from rewards.preference.data import write_jsonl
from rewards.preference.model import read_card
from shaping.contract.groups import small_policy
from shaping.organisms.corpus.comparisons import Comparisons, comparisons


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A language model of 20,000 parameters, as a directory."""
    path = tmp_path_factory.mktemp("base") / "model"
    small_policy().save(path)
    return path


def settings(path: Path, document: Any) -> Path:
    path.write_text(yaml.safe_dump(document))
    return path


def test_a_model_of_a_files_pairs_is_measured_kept_and_pays(tmp_path: Path, base: Path) -> None:
    write_jsonl(tmp_path / "pairs.jsonl", comparisons(Comparisons(pairs=24, worlds=("clerk",), turns=(4,))))
    document = {
        "model": str(base),
        "data": {"files": [str(tmp_path / "pairs.jsonl")]},
        "held_out": 0.4,
        "pretraining": {
            "data": {"comparisons": {"pairs": 4, "worlds": ["steward"], "turns": [3]}},
            "training": {"objective": "binary", "steps": 1},
        },
        "training": {"steps": 2, "lr": 1e-2},
    }
    config = read_settings(settings(tmp_path / "s.yaml", document), PreferenceConfig)
    notes: list[str] = []
    card = train_model(config, tmp_path / "pm", notes.append)
    assert card == read_card(tmp_path / "pm") and card.worlds == ["clerk"] and card.objective == "ranked"
    assert card.made["held_out"]["pairs"] + card.made["examples"] == 24
    assert any("accuracy" in note for note in notes)
    members = [episode.redacted() for episode in groups("clerk")[0]]
    paid = scored(PreferenceModel(path=str(tmp_path / "pm")), members)
    assert np.ptp([each[-1] for each in paid]) > 0
    with pytest.raises(ConfigError, match="exists already"):
        train_model(config, tmp_path / "pm")


@pytest.mark.parametrize(
    ("kind", "document", "says"),
    [
        (PreferenceConfig, {"data": {}}, "data: give comparisons, or files, or both"),
        (PreferenceConfig, {"trainig": {}}, "trainig: unknown key (did you mean 'training'?)"),
        (
            PreferenceConfig,
            {"training": {"objective": "imitation"}, "pretraining": {"data": {"files": ["x"]}}},
            "imitation cannot go on from pretraining",
        ),
        (PreferenceConfig, {"data": {"comparisons": {"worlds": ["casino"]}}}, "data.comparisons.worlds: no personas"),
        (Source, None, "give comparisons, or files, or both"),
    ],
)
def test_settings_are_refused_by_file_and_key(tmp_path: Path, kind: Any, document: Any, says: str) -> None:
    path = settings(tmp_path / "s.yaml", document)
    with pytest.raises(ConfigError) as refused:
        read_settings(path, kind)
    assert says in str(refused.value) and str(path) in str(refused.value)


def test_the_bundled_settings_are_whole_and_go_by_their_names() -> None:
    names = set(bundled_settings())
    assert names >= {"steward_200", "steward_2000"}
    for name in names:
        read_settings(Path(name), PreferenceConfig)


def test_examples_that_cannot_be_used_are_the_users_to_mend(tmp_path: Path, base: Path) -> None:
    (tmp_path / "x.jsonl").write_text('{"prompt": "q", "answer": "a", "good": true}\n')
    config = PreferenceConfig(model=str(base), data=Source(files=(str(tmp_path / "x.jsonl"),)))
    with pytest.raises(ConfigError, match=r"x\.jsonl: all 1 answers are good"):
        train_model(config, tmp_path / "pm")
    assert not (tmp_path / "pm").exists()
