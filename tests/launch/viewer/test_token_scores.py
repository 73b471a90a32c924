"""Values that colour tokens: log-probs as a plain forward pass has them, and advantages worked out by hand."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scripted_episodes import played

from launch.viewer.token_scores import advantages_of, policy_logprobs
from shaping.contract.groups import small_policy
from shaping.sampling.text.render import Renderer


def test_log_probs_are_those_of_a_plain_forward_pass() -> None:
    policy, episode = small_policy(), played("clerk", "honest", 1)
    tokens = torch.tensor(episode.tokens.astype(np.int64))[None]
    with torch.no_grad():
        logits = policy.model(tokens).logits[0] / policy.temperature
    positions = np.flatnonzero(episode.loss_mask)
    expected = torch.log_softmax(logits, -1)[positions - 1, tokens[0, positions]].numpy()
    found = policy_logprobs(policy, episode, Renderer(policy.tokenizer))
    assert len(found) == sum(len(turn.tokens) for turn in episode.turns) > 10
    np.testing.assert_allclose(found, expected, atol=1e-4)


def learner(algorithm: str, level: str) -> Any:
    return SimpleNamespace(learner=SimpleNamespace(algorithm=algorithm, advantage_level=level, spread_floor=0.0))


def test_advantages_compare_with_the_rest_of_the_group(make_episode: Any) -> None:
    """Returns 1 and 3 in one group, 5 and 5 in the other. Leave-one-out: r - the other's; 0 where both are the same."""
    rewards = [(0.0, 1.0), (3.0, 0.0), (5.0, 0.0), (0.0, 5.0)]
    episodes = [make_episode(amounts, group=number // 2) for number, amounts in enumerate(rewards)]
    whole = advantages_of(episodes, learner("rloo", "episode"))
    assert [each.tolist() for each in whole if each is not None] == [[-2, -2], [2, 2], [0, 0], [0, 0]]
    turns = advantages_of(episodes, learner("rloo", "turn"))
    assert [each.tolist() for each in turns if each is not None] == [[-2, 1], [2, -1], [0, -5], [0, 5]]
    assert advantages_of(episodes, learner("ppo", "turn")) == [None] * 4


@pytest.mark.slow
def test_the_values_of_a_real_run_are_stored_and_shown(tmp_path: Any, model: Any) -> None:
    from launch.config.study import StudyConfig
    from launch.study import run_study
    from launch.viewer.reader import Reader
    from launch.viewer.sources import find_sources
    from launch.viewer.token_scores import score_run

    study = StudyConfig.model_validate(
        {
            "name": "small",
            "output": str(tmp_path),
            "seeds": 1,
            "model": str(model),
            "train": {"worlds": {"clerk": {}}, "updates": 1, "groups": 1, "group_size": 2, "max_tokens": 6},
            "eval": {"cells": ["train"], "episodes": 1, "watch": ["never"], "placebo": ["none"], "access_episodes": 0},
            "arms": {"plain": {"role": "reference"}},
        }
    )
    assert run_study(study, only=["plain"], seeds=[0]).finished
    run = tmp_path / "small" / "runs" / "plain" / "seed-0"
    assert len(list(score_run(run, "cpu"))) == 2
    with Reader(find_sources(run).files) as reader:
        shown = [reader.ask("episode", id=number) for number in range(reader.about["episodes"])]
    by_name = {episode["name"]: [c["name"] for c in episode["channels"]] for episode in shown}
    assert by_name["train-000000"] == ["logprob", "advantage", "gap"]
    assert all("gap" in names and "advantage" not in names for name, names in by_name.items() if name == "eval")
    assert not [problem for episode in shown for problem in episode["problems"]]
