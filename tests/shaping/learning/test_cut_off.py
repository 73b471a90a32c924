"""Episodes that a horizon ends, and episodes that are cut off, played and learned from by ppo."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import pytest

from envs.core import TextEnv
from envs.episode import Context, Contexts, Episode, Labels, RolloutStatus
from shaping.arm import Arm, compose
from shaping.learning.config import LearnerConfig
from shaping.learning.credit.credit import assign_credit
from shaping.learning.credit.critic import Critic
from shaping.learning.learner import Learner
from shaping.learning.policy import Policy
from shaping.learning.samples.sample import Sample
from shaping.sampling.embedded.transformers_engine import TransformersEngine
from shaping.sampling.play import EpisodeRequest, Limits, play
from shaping.sampling.text.render import Renderer
from shaping.shapers.contexts.inoculation import Inoculation


class Paying(TextEnv):
    """Pays 1 per turn and truncates after three; `cut_off` says whether anything would have followed."""

    name: ClassVar[str] = "paying"
    max_return = 3.0

    def __init__(self, cut_off: bool = False) -> None:
        super().__init__()
        self.cut_off = cut_off

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        self.turn = 0
        return "turn 0 .", {}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        self.turn += 1
        info = {"labels": Labels(), "cut_off": self.cut_off}
        return f"turn {self.turn} .", 1.0, False, self.turn == 3, info


SHORT = Limits(max_tokens=6)
Targets = Callable[..., list[float]]


@pytest.fixture
def mean_targets(make_policy: Callable[..., Policy]) -> Targets:
    """The mean value target of each of six updates of warm-up."""

    def train(cut_off: bool, gamma: float, limits: Limits = SHORT) -> list[float]:
        own = make_policy()
        policy = Policy(own.model, own.tokenizer, critics=1)
        config = LearnerConfig(
            algorithm="ppo", advantage_level="turn", critic={"warmup": 6, "gamma": gamma}, max_mismatch_kl=1.0
        )
        learner, renderer, arm = Learner(policy, config), Renderer(policy.tokenizer), compose("arm", [])
        means = []
        for update in range(6):
            episodes = played(policy, renderer, arm, cut_off, update, limits)
            credited = assign_credit(
                episodes,
                [np.array([t.reward for t in e.turns]) for e in episodes],
                arm,
                renderer,
                algorithm="ppo",
                level="turn",
                critic=Critic(learner.values, gamma, config.critic.gae_lambda),
            )
            learner.update(credited.samples)
            means.append(_mean_target(credited.samples))
        return means

    return train


def played(policy: Policy, renderer: Renderer, arm: Arm, cut_off: bool, update: int, limits: Limits) -> list[Episode]:
    policy.model.eval()
    requests = [EpisodeRequest(lambda: Paying(cut_off), 0, sampling_seed=8 * update + n) for n in range(8)]
    engine = TransformersEngine(policy.model, renderer, slots=8)
    return asyncio.run(play(requests, engine, renderer, arm, limits=limits))


def _mean_target(samples: Sequence[Sample]) -> float:
    found = [s.critic.targets[s.critic.mask, 0] for s in samples if s.critic is not None]
    return float(np.concatenate(found).mean())


def test_the_horizon_of_a_world_ends_the_value_targets(mean_targets: Targets) -> None:
    """They are 3, 2 and 1. With the value after the horizon added, they grew from update to update."""
    assert mean_targets(False, 1.0) == pytest.approx([2.0] * 6, abs=0.1)


def test_without_a_discount_nothing_stands_for_what_would_have_followed(mean_targets: Targets) -> None:
    assert mean_targets(True, 1.0) == pytest.approx([2.0] * 6, abs=0.1)


@pytest.mark.parametrize("limits", [SHORT, replace(SHORT, max_turns=2)], ids=["world", "runner"])
def test_a_cut_off_episode_is_valued_as_one_that_goes_on(mean_targets: Targets, limits: Limits) -> None:
    """1 per turn for ever is 1 / (1 - gamma) = 2 in every turn; a horizon makes less of it."""
    cut_off = mean_targets(True, 0.5, limits)
    assert cut_off[-1] == pytest.approx(2.0, abs=0.15) and cut_off[-1] > cut_off[0]
    assert mean_targets(False, 0.5)[-1] == pytest.approx((1.75 + 1.5 + 1) / 3, abs=0.1)


def test_training_leaves_out_the_observation_that_only_the_critic_reads(make_policy: Callable[..., Policy]) -> None:
    policy = make_policy()
    renderer, arm = Renderer(policy.tokenizer), compose("arm", [])
    episode = played(policy, renderer, arm, True, 0, SHORT)[0]
    assert episode.status is RolloutStatus.TRUNCATED_CUT_OFF and not episode.loss_mask[-1]
    (sample,) = assign_credit([episode], [np.ones(3)], arm, renderer).samples
    assert len(sample) == np.flatnonzero(episode.loss_mask)[-1] + 1 < len(episode.tokens)


def test_an_older_episode_under_another_context_is_recalled_as_it_was_sampled(
    make_policy: Callable[..., Policy],
) -> None:
    """The fault: the observation after its last reply shifted the tokens whose log-probs were compared."""
    policy = make_policy()
    renderer = Renderer(policy.tokenizer)
    arm = compose("arm", [Inoculation(prompts=("be bold .",), at="training", ratio="recomputed")])
    episode = played(policy, renderer, arm, True, 0, SHORT)[0]
    swapped = replace(episode, contexts=Contexts(Context(), Context("be bold .", "bold")))
    (sample,) = assign_credit([swapped], [np.ones(3)], arm, renderer, version=episode.version + 1).samples
    assert sample.sampled is not None and not sample.on_policy
    assert sample.sampled.tokens.tolist() == episode.tokens[: len(sample.sampled)].tolist()
    for own in (sample, sample.sampled):
        assert own.tokens[own.mask].tolist() == episode.tokens[episode.loss_mask].tolist()
