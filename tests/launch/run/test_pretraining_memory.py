"""Organisms that do not fit into the memory of the machine are refused before anything is made."""

from __future__ import annotations

from pathlib import Path

import pytest

from launch.config.loading import load_study
from launch.run.memory import TooLargeError
from launch.run.models.pretraining_memory import check_pretraining, pretraining_bytes, pretraining_line
from shaping.organisms.config import OrganismConfig


def test_the_estimate_by_hand() -> None:
    config = OrganismConfig(hidden=32, layers=2, heads=4, kv_heads=2, vocabulary=320, batch_tokens=512)
    layer = 2 * 32 * (32 + 16) + 3 * 32 * 64 + 2 * 32
    weights = 320 * 32 + 2 * layer + 32
    of_a_token = 2 * (10 * 32 + 2 * (32 + 32) + 6 * 32) + 3 * 320
    assert pretraining_bytes(config) == 4 * (4 * weights + 512 * of_a_token)


def test_the_size_that_does_not_fit_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHAPING_CACHE", str(tmp_path))
    sizes = "axes={model.organism.hidden: [48, 65536]}"
    runs = load_study("inverse_scaling", [sizes, "seeds=1", "claims={}"]).runs()
    with pytest.raises(TooLargeError, match=r"^model\.organism: .*hidden 65536, layers 2.*choose a smaller size"):
        check_pretraining(runs, free=8 * 2**30)
    small = [run for run in runs if run.model.organism.hidden == 48]
    check_pretraining(small, free=8 * 2**30)
    with pytest.raises(TooLargeError, match="hidden 48"):
        check_pretraining(small, free=2**20)
    assert "0.09 M weights, to be pre-trained first" in pretraining_line(small[0].model)
