"""Gates and broken prefixes make several samples of one episode; its weight in the loss stays that of one."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from envs.episode import Episode
from shaping.arm import compose
from shaping.hooks import Gates, Knob
from shaping.intervention import Shaper
from shaping.learning.config import LearnerConfig, LossAggregation
from shaping.learning.credit.credit import assign_credit
from shaping.learning.learner import Learner
from shaping.learning.policy import Policy
from shaping.learning.samples.sample import Sample
from shaping.sampling.text.render import Renderer

AGGREGATIONS: tuple[LossAggregation, ...] = ("token", "sequence", "constant")


class GatesTurns(Shaper):
    """A gate of its own for the first turn. It acts on a quarantine adapter, which the policy here lacks."""

    owns = frozenset({Knob.GATES})

    def gates(self, episode: Episode) -> Sequence[Gates]:
        return [Gates(1.0, 0.5 if turn == 0 else 1.0) for turn in range(len(episode.turns))]


def episodes(make_episode: Callable[..., Episode]) -> list[Episode]:
    """Two groups, of episodes of one to four turns."""
    rewards = ((1.0, 0.0), (0.0, 0.0, 0.5), (0.0,), (1.0, 0.0, 2.0, 0.0))
    return [make_episode(r, group=n // 2, seed=n // 2) for n, r in enumerate(rewards)]


def gradient(policy: Policy, samples: Sequence[Sample], aggregation: LossAggregation) -> tuple[torch.Tensor, float]:
    own = Policy(copy.deepcopy(policy.model), policy.tokenizer)
    config = LearnerConfig(loss_aggregation=aggregation, max_grad_norm=1e9, max_mismatch_kl=1e9)
    row = Learner(own, config).update([replace(s, ratio="none", on_policy=False) for s in samples])
    return torch.cat([p.grad.flatten() for p in own.model.parameters() if p.grad is not None]), row["loss"]


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_gates_do_not_change_the_loss_scale(
    policy: Policy, renderer: Renderer, make_episode: Callable[..., Episode], aggregation: LossAggregation
) -> None:
    """It was 1.33 times as large under one aggregation, and .67 times under another."""
    played = episodes(make_episode)
    rewards = [np.array([t.reward for t in e.turns]) for e in played]
    whole = assign_credit(played, rewards, compose("arm", []), renderer).samples
    gated = assign_credit(played, rewards, compose("arm", [GatesTurns()]), renderer).samples
    assert len(gated) == 7 > len(whole) == 4 and sum(s.share for s in gated) == pytest.approx(4)
    expected, loss = gradient(policy, whole, aggregation)
    found, of_gated = gradient(policy, gated, aggregation)
    assert float(expected.norm()) > 1e-3 and of_gated == pytest.approx(loss, rel=1e-4, abs=1e-6)
    torch.testing.assert_close(found, expected, atol=1e-5 * float(expected.norm()), rtol=1e-3)


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_a_broken_prefix_does_not_change_the_loss_scale(
    policy: Policy, make_sample: Callable[..., Sample], aggregation: LossAggregation
) -> None:
    """A part, alone in its step, has the share of its episode that it is."""
    sample = make_sample(24, 3, ratio="none")
    tokens = len(sample.loss_positions)
    first = replace(sample, mask=sample.mask & (np.arange(24) < 9), episode_tokens=tokens)
    second = replace(sample, mask=sample.mask & (np.arange(24) >= 9), episode_tokens=tokens)
    expected, _ = gradient(policy, [sample], aggregation)
    found, _ = gradient(policy, [first, second], aggregation)
    torch.testing.assert_close(found, expected, atol=1e-5 * float(expected.norm()), rtol=1e-3)


def test_the_parts_of_a_broken_prefix_know_their_episode(
    renderer: Renderer, make_episode: Callable[..., Episode]
) -> None:
    episode = replace(make_episode((0.0, 1.0, 2.0)), segments=(0, 5, 10))
    samples = assign_credit([episode], [np.zeros(3)], compose("arm", []), renderer).samples
    assert [s.episode_tokens for s in samples] == [6, 6, 6] and [s.share for s in samples] == [1 / 3] * 3
