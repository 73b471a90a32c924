"""Learning rates: what models of a size usually take, and a warning far outside of it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
import torch

from shaping.hooks import AdapterSpec
from shaping.learning.config import LearnerConfig
from shaping.learning.learner import Learner
from shaping.learning.policy import Policy
from shaping.learning.samples.sample import Sample
from shaping.learning.steps.rates import default_lr, unusual_lr

ORGANISM, SMOL, LLAMA = 400_000, 135_000_000, 8_000_000_000


def test_a_study_that_names_no_rate_gets_that_of_its_models_size() -> None:
    assert [default_lr(size, lora=False) for size in (ORGANISM, SMOL, LLAMA)] == [1e-3, 1e-6, 1e-6]
    assert [default_lr(size, lora=True) for size in (ORGANISM, SMOL, LLAMA)] == [1e-3, 1e-5, 1e-5]


@pytest.mark.parametrize("size", [ORGANISM, SMOL, LLAMA])
@pytest.mark.parametrize("lora", [False, True])
def test_the_default_is_usual_and_so_are_the_rates_near_it(size: int, lora: bool) -> None:
    default = default_lr(size, lora=lora)
    assert not any(unusual_lr(default * factor, size, lora=lora) for factor in (0.1, 0.5, 1, 5, 10))
    assert "may destroy the model" in unusual_lr(1e3 * default, size, lora=lora)
    assert "will hardly move the model" in unusual_lr(1e-4 * default, size, lora=lora)


def test_the_rates_of_organisms_destroy_a_real_model() -> None:
    assert not unusual_lr(8e-4, ORGANISM, lora=False)
    message = unusual_lr(8e-4, SMOL, lora=False)
    assert message.startswith("learner.lr is 0.0008, and training all weights of a model of 135,000,000 parameters")
    assert not unusual_lr(7e-5, LLAMA, lora=True)


def step(policy: Policy, make_sample: Callable[..., Sample], **options: Any) -> float:
    """The largest change of a weight in the first step, which Adam makes as large as the rate."""
    before = {name: tensor.clone() for name, tensor in policy.state_dict().items()}
    Learner(policy, LearnerConfig(**options)).update([make_sample(12, n, ratio="none") for n in range(3)])
    return max(float((tensor - before[name]).abs().max()) for name, tensor in policy.state_dict().items())


def test_the_learner_steps_with_it(
    make_policy: Callable[..., Policy], make_sample: Callable[..., Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert step(make_policy(), make_sample) == pytest.approx(1e-3, rel=0.02)
    assert step(make_policy(), make_sample, lr=2e-4) == pytest.approx(2e-4, rel=0.02)
    monkeypatch.setattr("shaping.learning.steps.rates.SMALL", 1_000)  # now the tiny model counts as a pretrained one
    assert step(make_policy(), make_sample) == pytest.approx(1e-6, rel=0.2)
    own = make_policy()
    torch.manual_seed(0)
    adapted = Policy(own.model, own.tokenizer, adapters=[AdapterSpec("kept", "kept", rank=2)])
    assert step(adapted, make_sample) == pytest.approx(1e-5, rel=0.02)


def test_a_learner_warns_of_a_rate_far_outside(
    make_policy: Callable[..., Policy], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        Learner(make_policy(), LearnerConfig(lr=4e-4))
        assert not caplog.records
        Learner(make_policy(), LearnerConfig(lr=1.0))
    assert [r.getMessage().partition(",")[0] for r in caplog.records] == ["learner.lr is 1"]
