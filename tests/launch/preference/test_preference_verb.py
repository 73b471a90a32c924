"""`shaping preference`: settings, a model from a file, and a grid in slices."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from scripted_episodes import groups

from launch.errors import ConfigError
from launch.preference.command import train_model
from launch.preference.page import page
from launch.preference.scale import fits, scale
from launch.preference.settings import PreferenceConfig, ScaleConfig, Source, bundled_settings, read_settings
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
        (ScaleConfig, {"models": {"a": "x"}, "examples": [4, 4]}, "examples: each must be there once"),
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
    assert {"steward_200", "steward_2000", "scaling"} <= names
    for name in names:
        read_settings(Path(name), ScaleConfig if name == "scaling" else PreferenceConfig)
    grid = read_settings(Path("scaling"), ScaleConfig)
    assert (
        len(grid.models) >= 4 and len(grid.examples) >= 3 and set(grid.objectives) == {"imitation", "binary", "ranked"}
    )


def test_examples_that_cannot_be_used_are_the_users_to_mend(tmp_path: Path, base: Path) -> None:
    (tmp_path / "x.jsonl").write_text('{"prompt": "q", "answer": "a", "good": true}\n')
    config = PreferenceConfig(model=str(base), data=Source(files=(str(tmp_path / "x.jsonl"),)))
    with pytest.raises(ConfigError, match=r"x\.jsonl: all 1 answers are good"):
        train_model(config, tmp_path / "pm")
    assert not (tmp_path / "pm").exists()


def test_a_grid_goes_on_where_it_was_left_and_keeps_to_its_settings(tmp_path: Path, base: Path) -> None:
    document = {
        "models": {"tiny": str(base)},
        "examples": [8, 4],
        "objectives": ["imitation", "ranked"],
        "data": {"worlds": ["clerk"], "turns": [3]},
        "held_out": 12,
        "pretraining": {"steward": {"data": {"comparisons": {"pairs": 4, "worlds": ["steward"], "turns": [2]}}}},
        "training": {"steps": 1},
    }
    config = read_settings(settings(tmp_path / "s.yaml", document), ScaleConfig)
    out = tmp_path / "grid"
    assert scale(config, out, most=1)["left"] == 5
    first = (out / "rows.jsonl").read_text()
    result = scale(config, out)
    assert result["left"] == 0 and (out / "rows.jsonl").read_text().startswith(first)
    rows = [json.loads(line) for line in (out / "rows.jsonl").read_text().splitlines()]
    assert [(row["objective"], row["pretraining"], row["examples"]) for row in rows] == [
        *(("imitation", "none", 4), ("imitation", "none", 8)),
        *(("ranked", "none", 4), ("ranked", "none", 8)),
        *(("ranked", "steward", 4), ("ranked", "steward", 8)),
    ]
    assert {row["pairs"] for row in rows} == {12} and {row["trained_on"] for row in rows} == {4, 8}
    assert json.loads((out / "scaling.json").read_text()) == json.loads(json.dumps(result, allow_nan=False))
    assert re.search(r"\| ranked +\| steward +\| 8 +\| \d", (out / "scaling.md").read_text())
    with pytest.raises(ConfigError, match="holds results of other settings"):
        scale(config.model_copy(update={"seeds": 2}), out)


def test_the_law_of_a_grid_is_fitted_and_shown() -> None:
    """Errors of 10 N^-.2 D^-.1, of which one grid has only one size."""
    rows = [
        {
            **{"model": f"m{size}", "objective": objective, "pretraining": "none", "examples": count, "seed": 0},
            **{"parameters": size, "accuracy": 1 - 10 * size**-0.2 * count**-0.1, "pairs": 1000, "situations": 1000},
            "longer_accuracy": 0.5,
        }
        for objective, sizes in (("ranked", (10**5, 10**6, 10**7)), ("binary", (10**6,)))
        for size in sizes
        for count in (100, 1000, 10_000)
    ]
    both, one = fits(rows)
    assert both["exponents"] == pytest.approx({"parameters": 0.2, "examples": 0.1})
    assert one["exponents"] == pytest.approx({"examples": 0.1})
    text = page({"rows": rows, "fits": [both, one], "left": 0})
    assert "0.200 [0.200, 0.200]" in text and "not fitted" in text and "m100000 (0.1 M)" in text
