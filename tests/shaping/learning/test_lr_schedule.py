"""Learning rates that fall over the updates of a run."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from shaping.learning.config import LearnerConfig
from shaping.learning.learner import Learner
from shaping.learning.policy import Policy
from shaping.learning.samples.sample import Sample


@pytest.mark.parametrize(
    ("schedule", "shares"),
    [
        ("constant", [1, 1, 1, 1, 1]),
        ("linear", [1, 0.8, 0.6, 0.4, 0.2]),
        ("cosine", [1, 0.2 + 0.8 * (2 + np.sqrt(2)) / 4, 0.6, 0.2 + 0.8 * (2 - np.sqrt(2)) / 4, 0.2]),
    ],
)
def test_the_rate_falls_from_all_to_its_end(schedule: Any, shares: list[float]) -> None:
    config = LearnerConfig(lr_schedule=schedule, lr_end=0.2)
    assert [config.lr_share(update, 5) for update in range(5)] == pytest.approx(shares)
    assert config.lr_share(9, 5) == pytest.approx(shares[-1]) and config.lr_share(0, 1) == 1.0


@pytest.mark.parametrize(
    ("schedule", "shares"),
    [
        ("constant", [1 / 3, 2 / 3, 1, 1, 1, 1, 1]),
        ("linear", [1 / 3, 2 / 3, 1, 0.8, 0.6, 0.4, 0.2]),
    ],
)
def test_the_rate_rises_before_it_falls(schedule: Any, shares: list[float]) -> None:
    config = LearnerConfig(lr_schedule=schedule, lr_end=0.2, lr_warmup=2)
    assert [config.lr_share(update, 7) for update in range(7)] == pytest.approx(shares)
    assert config.lr_share(9, 7) == pytest.approx(shares[-1]), "later updates keep the end"
    short = LearnerConfig(lr_schedule=schedule, lr_warmup=4)
    assert [short.lr_share(update, 3) for update in range(3)] == pytest.approx([0.2, 0.4, 0.6]), "never beyond its end"


def moved(learner: Learner, batch: list[Sample]) -> tuple[float, dict[str, float]]:
    before = {n: t.clone() for n, t in learner.policy.state_dict().items()}
    row = learner.update(batch)
    after = learner.policy.state_dict()
    return max(float((after[n] - t).abs().max()) for n, t in before.items()), row


@pytest.fixture
def batch(make_sample: Callable[..., Sample]) -> list[Sample]:
    return [make_sample(12, n, ratio="none") for n in range(3)]


OPTIONS: dict[str, Any] = {"lr": 1e-2, "max_mismatch_kl": 1e9}


def test_the_first_step_of_adam_is_the_rate_of_its_update(
    make_policy: Callable[..., Policy], batch: list[Sample]
) -> None:
    """Adam's first step has the size of the learning rate in every coordinate with a gradient."""
    learner = Learner(make_policy(), LearnerConfig(**OPTIONS, lr_schedule="linear", lr_end=0.1), updates=10)
    first, row = moved(learner, batch)
    assert first == pytest.approx(1e-2, rel=1e-2) and row["lr"] == pytest.approx(1e-2)
    late = Learner(make_policy(), LearnerConfig(**OPTIONS, lr_schedule="linear", lr_end=0.1), updates=10)
    late.version = 9
    last, row = moved(late, batch)
    assert last == pytest.approx(1e-3, rel=1e-2) and row["lr"] == pytest.approx(1e-3)


def test_warm_up_alone_needs_no_number_of_updates(make_policy: Callable[..., Policy], batch: list[Sample]) -> None:
    learner = Learner(make_policy(), LearnerConfig(**OPTIONS, lr_warmup=3))
    first, row = moved(learner, batch)
    assert first == pytest.approx(1e-2 / 4, rel=1e-2) and row["lr"] == pytest.approx(1e-2 / 4)


def test_no_schedule_changes_no_bit_and_adds_no_column(make_policy: Callable[..., Policy], batch: list[Sample]) -> None:
    one, other = (Learner(make_policy(), LearnerConfig(**OPTIONS), updates=n) for n in (None, 4))
    for _ in range(3):
        rows = [one.update(batch), other.update(batch)]
    assert rows[0] == rows[1] and "lr" not in rows[0]
    assert all(torch.equal(t, other.policy.state_dict()[n]) for n, t in one.policy.state_dict().items())


def test_a_resumed_run_goes_on_at_its_rate(make_policy: Callable[..., Policy], batch: list[Sample]) -> None:
    def learner() -> Learner:
        return Learner(make_policy(), LearnerConfig(**OPTIONS, lr_schedule="cosine"), updates=6)

    whole, part = learner(), learner()
    for _ in range(3):
        whole.update(batch)
        part.update(batch)
    resumed = learner()
    resumed.load_state_dict(*copy.deepcopy(part.state_dict()))
    for _ in range(3):
        assert resumed.update(batch) == whole.update(batch)
    assert all(torch.equal(t, resumed.policy.state_dict()[n]) for n, t in whole.policy.state_dict().items())


def test_a_schedule_needs_to_know_when_the_run_ends(make_policy: Callable[..., Policy]) -> None:
    with pytest.raises(ValueError, match=r"learner\.lr_schedule=linear needs the number of updates"):
        Learner(make_policy(), LearnerConfig(lr_schedule="linear"))
