"""The learner's options reach the stages of a run: what is learned is what the config names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from envs.store import read_episodes, write_episodes
from launch.config.loading import parse_study
from launch.config.study import RunConfig
from launch.run.build import build
from launch.run.stages import credit, play
from launch.train import update
from shaping.learning.learner import LearnerError
from shaping.learning.policy import Policy

Array = NDArray[np.float64]
GROUPS, SIZE, TURNS = 2, 4, 3


def config(options: dict[str, Any]) -> RunConfig:
    worlds: dict[str, Any] = {"controller_worlds:Vowels": {}}
    small = {"updates": 1, "groups": GROUPS, "group_size": SIZE, "max_tokens": 8, "device": "cpu"}
    document = {
        "name": "small",
        "seeds": 1,
        "train": {"worlds": worlds, **small},
        "eval": {"worlds": worlds},
        "learner": options,
        "arms": {"unshaped": {"role": "reference"}},
    }
    return parse_study(document, "test").runs()[0]


def grpo(rewards: Array) -> Array:
    """Of rewards [groups, members, turns]: (return - group mean) / group std, the same for all turns."""
    returns = rewards.sum(-1, keepdims=True)
    return (returns - returns.mean(1, keepdims=True)) / returns.std(1, keepdims=True) * np.ones(TURNS)


def reinforce_pp(rewards: Array) -> Array:
    """The same with one std for the whole batch."""
    returns = rewards.sum(-1, keepdims=True)
    centred = returns - returns.mean(1, keepdims=True)
    return centred / centred.std() * np.ones(TURNS)


def rloo_by_turn(rewards: Array) -> Array:
    """What is still to be paid from a turn on, less the mean of the other members at that turn."""
    to_go = rewards[..., ::-1].cumsum(-1)[..., ::-1]
    return to_go - (to_go.sum(1, keepdims=True) - to_go) / (SIZE - 1)


def test_a_study_sets_the_ratio_and_the_seed_of_its_arms(make_policy: Callable[..., Policy], tmp_path: Path) -> None:
    make_policy().save(tmp_path)
    trainer = build(config({"ratio": "recomputed"}).model_copy(update={"seed": 3}), tmp_path).trainer
    trainer.sync()
    episodes, _ = play(trainer, 0)
    samples = credit(trainer, episodes, [np.arange(TURNS, dtype=float)] * len(episodes), {}).samples
    assert {s.ratio for s in samples} == {"recomputed"} and trainer.learner._seed == 3  # type: ignore[attr-defined]


def test_a_run_learns_from_the_distribution_that_truncated_sampling_drew_from(
    make_policy: Callable[..., Policy], tmp_path: Path
) -> None:
    """Priced over all tokens, every sampled token would look less likely than it was."""
    make_policy().save(tmp_path / "model")
    plain = config({"kl": 0.1})
    run = plain.model_copy(update={"rollout": plain.rollout.model_copy(update={"top_k": 6, "top_p": 0.8})})
    trainer = build(run, tmp_path / "model").trainer
    trainer.sync()
    episodes, _ = play(trainer, 0)
    assert all(0 < len(ids) <= 6 and max(ids) < 0 for e in episodes for _, ids in e.masked_tokens())
    write_episodes(tmp_path / "episodes.parquet", episodes)
    stored = read_episodes(tmp_path / "episodes.parquet")
    assert [list(e.masked_tokens()) for e in stored] == [list(e.masked_tokens()) for e in episodes]
    samples = credit(trainer, episodes, [np.arange(TURNS, dtype=float) * n for n in range(len(episodes))], {}).samples
    metrics = trainer.learner.update(samples)
    assert metrics["mismatch_kl"] < 1e-6 and metrics["entropy"] <= np.log(6)
    bare = [replace(s, masked_tokens=np.zeros((0, 2), np.int64)) for s in samples]
    with pytest.raises(LearnerError, match="mismatch"):
        build(run, tmp_path / "model").trainer.learner.update(bare)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, grpo),
        (
            {"algorithm": "rloo", "advantage_level": "turn", "ratio_level": "sequence", "entropy_coef": 0.01},
            rloo_by_turn,
        ),
        ({"algorithm": "reinforce_pp", "kl": 0.1, "kl_estimator": "k2"}, reinforce_pp),
    ],
)
def test_credit_is_assigned_as_the_config_says(
    make_policy: Callable[..., Policy],
    tmp_path: Path,
    options: dict[str, Any],
    expected: Callable[[Array], Array],
) -> None:
    make_policy().save(tmp_path)
    trainer = build(config(options), tmp_path).trainer
    trainer.sync()
    episodes, _ = play(trainer, 0)
    assert [e.group for e in episodes] == [0] * SIZE + [1] * SIZE and {len(e.turns) for e in episodes} == {TURNS}
    rewards: Sequence[Array] = list(np.random.default_rng(0).normal(size=(GROUPS * SIZE, TURNS)))
    credited = credit(trainer, episodes, list(rewards), {})
    wanted = expected(np.reshape(rewards, (GROUPS, SIZE, TURNS))).reshape(-1, TURNS)
    for episode, sample, turns in zip(episodes, credited.samples, wanted, strict=True):
        np.testing.assert_allclose(
            sample.advantage[sample.mask], turns[episode.turn_index[episode.loss_mask]], rtol=1e-5
        )


def test_an_update_learns_with_every_term_that_the_config_names(
    make_policy: Callable[..., Policy], tmp_path: Path
) -> None:
    make_policy().save(tmp_path)
    row = update(build(config({"kl": 0.1, "entropy_coef": 0.01}), tmp_path).trainer, 0).row
    assert all(np.isfinite(row[name]) for name in ("loss", "entropy", "grad_norm", "mismatch_kl"))
    assert row["kl"] == pytest.approx(0.0, abs=1e-6), "the reference is the policy before the first update"
    assert "kl" not in update(build(config({}), tmp_path).trainer, 0).row
