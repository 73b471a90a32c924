"""Episodes open at once in evaluation and audits: as many as were set, or as a GPU's free memory holds."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from launch_fakes import study
from transformers import LlamaConfig

from launch.config.study import RunConfig
from launch.run.episodes import SLOTS
from launch.run.slots import FOR_CACHE, eval_slots

SHAPE = LlamaConfig(hidden_size=64, num_hidden_layers=2, num_attention_heads=4, max_position_embeddings=512)
EACH = 512 * 2 * 2 * 64 * 2
"""Bytes of an episode at its longest: tokens x (keys and values) x layers x width x bfloat16."""


def run(tmp_path: Path, **evaluation: Any) -> RunConfig:
    config = study(tmp_path, {"arm": ""})
    return config.model_copy(update={"eval": config.eval.model_copy(update=evaluation)}).runs()[0]


def model(device: str) -> Any:
    return SimpleNamespace(device=torch.device(device), dtype=torch.bfloat16, config=SHAPE)


def test_on_a_cpu_nothing_changes(tmp_path: Path) -> None:
    plain = run(tmp_path)
    assert eval_slots(plain, model("cpu")) == SLOTS
    assert eval_slots(run(tmp_path, slots=3), model("cpu")) == 3


@pytest.mark.parametrize(("episodes", "found"), [(1000.0, SLOTS), (5.5, 5), (0.2, 1)])
def test_on_a_gpu_as_many_as_its_free_memory_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, episodes: float, found: int
) -> None:
    """64 slots of 8,192 tokens were 77 GB of a model with 4 billion weights."""
    monkeypatch.setattr("torch.cuda.empty_cache", lambda: None)
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda _: (int(episodes * EACH / FOR_CACHE), 0))
    assert eval_slots(run(tmp_path), model("cuda")) == found
    assert eval_slots(run(tmp_path, slots=9), model("cuda")) == 9
