"""Whatever a model directory holds, the trained model is saved: what cannot be is mended at load, or told."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import pytest
from transformers import GenerationConfig

from shaping.learning.policy import Policy
from shaping.models import log_once
from shaping.models.saving import SavingError, rehearse_saving, saveable

SMALL = {"hidden": 32, "layers": 1, "heads": 2, "kv_heads": 1, "vocabulary": 400, "episodes": 12, "steps": 2}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from shaping.organisms.config import OrganismConfig
    from shaping.organisms.organism import ensure

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SHAPING_CACHE", str(tmp_path_factory.mktemp("cache")))
        return ensure(OrganismConfig(**SMALL))


@pytest.fixture
def own(model: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(model, tmp_path / "own"))


@pytest.mark.parametrize(
    ("settings", "lost"),
    [
        ({}, []),
        ({"do_sample": True, "temperature": 0.6, "top_p": 0.9, "top_k": 20}, []),
        ({"temperature": 0.6, "top_p": 0.9}, ["temperature", "top_p"]),
        ({"do_sample": False, "min_p": 0.1, "max_new_tokens": 7}, ["min_p"]),
        ({"num_beams": 1, "length_penalty": 2.0}, ["length_penalty"]),
        ({"num_beams": 4, "length_penalty": 2.0, "early_stopping": True}, []),
        ({"eos_token_id": [3, 4], "pad_token_id": -1}, ["pad_token_id"]),
    ],
)
def test_settings_without_effect_are_left_out_and_no_others(
    settings: dict[str, Any], lost: list[str], tmp_path: Path
) -> None:
    kept, names = saveable(GenerationConfig(**settings))
    assert names == lost
    kept.save_pretrained(tmp_path)
    read = json.loads((tmp_path / "generation_config.json").read_text())
    assert {name: read.get(name) for name in settings if name not in lost} == {
        name: value for name, value in settings.items() if name not in lost
    }


def test_a_model_whose_generation_config_cannot_be_saved_is_mended_at_load_with_one_line(
    own: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_once, "_told", set())
    path = own / "generation_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "temperature": 0.6, "top_p": 0.9}))
    rehearse_saving(own)
    with caplog.at_level(logging.WARNING, "shaping.models.saving"):
        policies = [Policy.load(own), Policy.load(own)]
    (line,) = [record.message for record in caplog.records if record.name == "shaping.models.saving"]
    assert line == f"{own}: generation_config.json: left out, as they have no effect together: temperature, top_p"
    policies[0].save(tmp_path / "trained")
    assert "temperature" not in json.loads((tmp_path / "trained" / "generation_config.json").read_text())
    Policy.load(tmp_path / "trained")


def test_the_rehearsal_saves_everything_but_the_weights(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (own / "model.safetensors").unlink()
    rehearse_saving(own)


def test_what_loads_and_cannot_be_saved_is_told(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise ValueError("no\nway")

    monkeypatch.setattr("transformers.PreTrainedTokenizerBase.save_pretrained", refuse)
    with pytest.raises(SavingError, match=r"the tokenizer cannot be saved again.*ValueError: no way$"):
        rehearse_saving(own)
