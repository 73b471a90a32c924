"""What every test of learning needs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from four_episodes import RETURNS
from torch import Tensor

from envs.episode import Episode
from shaping.arm import compose
from shaping.intervention import Intervention
from shaping.learning.credit.credit import Credited, assign_credit
from shaping.learning.learner import Learner
from shaping.learning.policy import Policy
from shaping.learning.samples.sample import Sample
from shaping.sampling.text.render import Renderer

MakeEpisode = Callable[..., Episode]
MakeSample = Callable[..., Sample]
MakeTrainer = Callable[..., Any]


@pytest.fixture(scope="session")
def make_sample() -> MakeSample:
    """Random samples: `length` tokens of which about two thirds are in the loss. Equal seeds give equal samples."""

    def make(length: int = 12, seed: int = 0, masked_tokens: bool = False, **changes: Any) -> Sample:
        rng = np.random.default_rng(seed)
        tokens = rng.integers(0, 250, length)
        mask = rng.random(length) < 0.67
        mask[:2] = False, True
        banned = [(int(p), 250 + int(p) % 7) for p in np.flatnonzero(mask)] if masked_tokens else []
        streams: dict[str, Any] = {
            "tokens": tokens,
            "mask": mask,
            "old_logprobs": np.where(mask, -5.0, 0.0).astype(np.float32),
            "advantage": rng.normal(size=length).astype(np.float32),
            "weight": np.ones(length, np.float32),
            "masked_tokens": np.array(banned, np.int64).reshape(-1, 2),
        }
        return Sample(**{**streams, "on_policy": False, **changes})

    return make


@pytest.fixture
def make_trl_trainer(
    make_policy: Callable[..., Policy], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> MakeTrainer:
    """TRL's GRPO trainer of a tiny model; attributes that need more than this to be set up are set afterwards."""
    from datasets import Dataset  # not at the top: half of the tests of learning need no trl, which takes seconds
    from trl import GRPOConfig, GRPOTrainer

    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")

    def make(
        *, policy: Policy | None = None, rollout: Any = None, reward: Any = None, rows: int = 4, **settings: Any
    ) -> Any:
        policy = policy or make_policy()
        args = GRPOConfig(
            output_dir=str(tmp_path),
            use_cpu=True,
            bf16=False,
            report_to=[],
            gradient_checkpointing=False,
            num_generations=settings.pop("num_generations", 2),
            per_device_train_batch_size=rows,
            generation_batch_size=rows,
            max_completion_length=settings.pop("width", 9),
            **settings,
        )
        trainer = GRPOTrainer(
            model=policy.model,
            reward_funcs=reward or (lambda completions, **_: [0.0] * len(completions)),
            args=args,
            train_dataset=Dataset.from_list([{"prompt": "x"}] * rows),
            processing_class=policy.tokenizer,
            rollout_func=rollout or (lambda prompts, trainer: {}),
        )
        trainer.current_gradient_accumulation_steps = 1  # set by the training loop, which does not run here
        trainer.model.train()
        return trainer

    return make


@pytest.fixture(scope="session")
def gradient_of() -> Callable[[Learner, list[Sample]], dict[str, Tensor]]:
    """The gradient that an update computes, by parameter."""

    def measure(learner: Learner, samples: list[Sample]) -> dict[str, Tensor]:
        """Of one update, collected while it is computed: summed over micro-batches, not clipped."""
        found = {name: torch.zeros_like(p) for name, p in learner.policy.model.named_parameters()}

        def collect(total: Tensor) -> Callable[[Tensor], None]:
            def add(gradient: Tensor) -> None:
                total.add_(gradient)

            return add

        hooks = [p.register_hook(collect(found[name])) for name, p in learner.policy.model.named_parameters()]
        learner.update(samples)
        for hook in hooks:
            hook.remove()
        return found

    return measure


@pytest.fixture
def episodes(make_episode: MakeEpisode) -> list[Episode]:
    """Two groups of two episodes."""
    return [make_episode(r, group=n // 2, seed=n // 2) for n, r in enumerate(RETURNS)]


@pytest.fixture
def credit(renderer: Renderer, episodes: list[Episode]) -> Callable[..., Credited]:
    def assign(*interventions: Intervention, among: Sequence[Episode] = episodes, **options: Any) -> Credited:
        rewards = [np.array([t.reward for t in e.turns]) for e in among]
        return assign_credit(among, rewards, compose("arm", interventions), renderer, **options)

    return assign
