"""The files of a model: which count, how they are compared, and how a weight file that is cut off is told."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from families import tiny
from safetensors.torch import load_file, save_file

from shaping.learning.policy import Policy, PolicyError
from shaping.models import model_files
from shaping.organisms.pretrained import PretrainedError, check


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    save_file({"a": torch.ones(100), "b": torch.zeros(7)}, folder / "model.safetensors")
    (folder / "config.json").write_text("{}")
    (folder / "tokenizer.json").write_text("{}")
    return folder


def test_weights_config_and_tokenizer_count_and_notes_do_not(model: Path) -> None:
    before = model_files.hashes(model)
    assert sorted(before) == ["config.json", "model.safetensors", "tokenizer.json"]
    for name in ("README.md", "organism.json", ".DS_Store", "results.json"):
        (model / name).write_text("mine")
    assert model_files.hashes(model) == before


def test_other_files_are_named_with_how_they_differ(model: Path) -> None:
    before = model_files.hashes(model)
    (model / "tokenizer.json").unlink()
    (model / "config.json").write_text("[]")
    (model / "chat_template.jinja").write_text("x")
    changed = model_files.changed(before, model_files.hashes(model))
    assert changed == ["chat_template.jinja is new", "config.json differs", "tokenizer.json is missing"]


def test_a_model_is_read_once_per_process_unless_it_is_touched(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = model_files.hashes(model)
    with monkeypatch.context() as patch:
        patch.setattr(model_files, "content_hash", lambda path: pytest.fail("read again"))
        assert model_files.hashes(model) == before
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\1")
    os.utime(weights, ns=(1, 1))
    assert model_files.changed(before, model_files.hashes(model)) == ["model.safetensors differs"]


@pytest.mark.parametrize(
    ("kept", "told"), [(0, "do not hold its header"), (9, "do not hold"), (-1, "has 555 of 556 bytes")]
)
def test_a_weight_file_that_is_cut_off_is_told_with_its_path(model: Path, kept: int, told: str) -> None:
    assert model_files.damaged_weights(model) == ""
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:kept])
    found = model_files.damaged_weights(model)
    assert found.startswith(f"{weights} is cut off") and told in found
    with pytest.raises(PolicyError, match=r"model\.safetensors is cut off"):
        Policy.load(model)
    with pytest.raises(PretrainedError, match=r"model\.safetensors is cut off"):
        check(model)


def test_a_header_that_is_none_is_told(model: Path) -> None:
    (model / "model.safetensors").write_bytes((20).to_bytes(8, "little") + b"x" * 30)
    assert "its header is not that of a safetensors file" in model_files.damaged_weights(model)


@pytest.mark.parametrize("weight", ["model.layers.1.mlp.up_proj.weight", "lm_head.weight"])
def test_a_weight_that_is_missing_from_the_files_is_an_error_with_its_name(tmp_path: Path, weight: str) -> None:
    model = tiny("llama")
    model.save_pretrained(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    del state[weight]
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(PolicyError, match=f"lacks 1 of its model's weights, .*: {re.escape(weight)}"):
        Policy.load(tmp_path)


def test_an_output_layer_that_is_tied_is_not_missing(tmp_path: Path, make_policy: Callable[..., Policy]) -> None:
    tiny("llama", tie_word_embeddings=True).save_pretrained(tmp_path)
    make_policy().tokenizer.save_pretrained(tmp_path)
    assert "lm_head.weight" not in load_file(tmp_path / "model.safetensors")
    Policy.load(tmp_path)
