"""The learner's options reach a run: credit by the algorithm and level that the config names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import launch.run.trainer
from launch.config.loading import parse_study
from launch.run.trainer import Trainer
from shaping.learning.credit import Credited, assign_credit
from shaping.learning.policy import Policy


@pytest.mark.parametrize(
    ("options", "algorithm", "level"),
    [
        ({}, "grpo", "episode"),
        (
            {"algorithm": "rloo", "advantage_level": "turn", "ratio_level": "sequence", "entropy_coef": 0.01},
            "rloo",
            "turn",
        ),
        ({"algorithm": "reinforce_pp", "kl": 0.1, "kl_estimator": "k2"}, "reinforce_pp", "episode"),
    ],
)
def test_credit_is_assigned_as_the_config_says(
    make_policy: Callable[..., Policy],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, Any],
    algorithm: str,
    level: str,
) -> None:
    make_policy().save(tmp_path)
    worlds: dict[str, Any] = {"controller_worlds:Vowels": {}}
    (run,) = parse_study(
        {
            "name": "small",
            "seeds": 1,
            "train": {"worlds": worlds, "updates": 1, "groups": 2, "group_size": 4, "max_tokens": 8, "device": "cpu"},
            "eval": {"worlds": worlds},
            "learner": options,
            "arms": {"unshaped": {"role": "reference"}},
        },
        "test",
    ).runs()
    asked: list[dict[str, Any]] = []

    def spy(*args: Any, **kwargs: Any) -> Credited:
        asked.append(kwargs)
        return assign_credit(*args, **kwargs)

    monkeypatch.setattr(launch.run.trainer, "assign_credit", spy)
    row = Trainer(run, tmp_path).update(0).row
    assert [(call["algorithm"], call["level"]) for call in asked] == [(algorithm, level)]
    assert all(np.isfinite(row[name]) for name in ("loss", "entropy", "grad_norm", "mismatch_kl"))
