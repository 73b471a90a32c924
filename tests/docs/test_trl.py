"""The page on TRL: its example runs, its settings are valid."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from shaping.learning.policy import Policy
from shaping.organisms.warm_start import WarmStartConfig

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "docs" / "examples" / "trl_run.py"
PAGE = (ROOT / "docs" / "trl.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def test_the_page_prints_the_example_as_it_is() -> None:
    assert EXAMPLE.read_text() in blocks("python")


def test_the_example_trains(
    make_policy: Callable[..., Policy], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")
    spec = importlib.util.spec_from_file_location("trl_run", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    make_policy(context=4096).save(tmp_path / "model")
    settings = {"max_steps": 1, "use_cpu": True, "bf16": False, "save_strategy": "no", "logging_steps": 1}
    trainer = example.train(str(tmp_path / "model"), str(tmp_path / "out"), **settings)
    assert trainer.state.global_step == 1
    metrics = set().union(*trainer.state.log_history)
    named = set(re.findall(r"`(shaping/\w+)`", PAGE))
    assert named
    assert named <= metrics
    assert all(e.contexts.sampling.system for e in trainer.shaping.episodes)


def test_the_settings_of_a_warm_start_are_valid() -> None:
    (settings,) = blocks("yaml")
    assert WarmStartConfig.model_validate(yaml.safe_load(settings)).lora_rank == 16
