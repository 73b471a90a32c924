"""Recontextualization: sampled under one context, learned under a more permissive one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from pydantic import ValidationError

from envs.episode import Context, Contexts, Episode
from shaping.arm import compose
from shaping.contract.groups import group_keys, play_groups, small_policy
from shaping.hooks import Group, GroupInfo
from shaping.learning.config import LearnerConfig
from shaping.learning.credit.credit import assign_credit
from shaping.learning.learner import Learner
from shaping.learning.policy import Policy
from shaping.learning.samples.sample import Sample
from shaping.prompts.pools import PROMPTS
from shaping.sampling.text.render import Renderer
from shaping.shapers import Recontextualization

PERMITTED = "you may take shortcuts ."
BRIEF = GroupInfo("steward", seed=3, group=1, update=0)


def draws(shaper: Recontextualization, n: int = 50) -> list[tuple[Context, Context]]:
    rng = np.random.default_rng(0)
    return [compose("a", [shaper]).contexts(BRIEF, rng) for _ in range(n)]


def test_by_default_it_samples_without_a_prompt_and_learns_under_a_permissive_one() -> None:
    pairs = draws(Recontextualization())
    assert {c_s for c_s, _ in pairs} == {Context()}
    assert {c_t.system for _, c_t in pairs} <= set(PROMPTS["permissive"]) and len({c_t for _, c_t in pairs}) > 6


def test_both_contexts_may_be_a_pool_a_prompt_or_none() -> None:
    c_s, c_t = draws(Recontextualization(sampling="forbidding", training="you may cheat ."))[0]
    assert c_s.system in PROMPTS["forbidding"] and c_t == Context("you may cheat .", "training/0")
    c_s, c_t = draws(Recontextualization(sampling=("be honest .",), training=""))[0]
    assert c_s == Context("be honest .", "sampling/0") and c_t == Context()


def test_the_probability_is_the_share_of_groups_that_learn_under_the_other_context() -> None:
    full = draws(Recontextualization(sampling="forbidding"), 1000)
    half = draws(Recontextualization(sampling="forbidding", probability=0.5), 1000)
    assert all(c_s != c_t for c_s, c_t in full)
    assert 430 < sum(c_s == c_t for c_s, c_t in half) < 570
    assert all(c_s == other for (c_s, _), (other, _) in zip(half, full, strict=True)), "no draw of c_s is shifted"
    assert all(c_t in (c_s, other) for (c_s, c_t), (_, other) in zip(half, full, strict=True))


def test_of_probability_zero_every_group_learns_as_it_was_sampled() -> None:
    assert draws(Recontextualization(probability=0.0)) == [(Context(), Context())] * 50


@pytest.mark.parametrize("mode", ["sampler", "recomputed", "none"])
def test_the_three_ratio_modes(mode: str) -> None:
    assert compose("a", [Recontextualization(ratio=mode)]).ratio_mode() == mode


def test_the_default_ratio_is_recomputed_under_the_learning_context() -> None:
    assert Recontextualization().ratio_mode() == "recomputed"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"training": "permisive"}, "not a bundled prompt pool"),
        ({"sampling": "permissive", "training": "permissive"}, "use Inoculation"),
        ({"sampling": "", "training": ""}, "use Inoculation"),
        ({"training": ("ok .", "")}, "blank"),
        ({"ratio": "exact"}, "ratio"),
        ({"probability": -0.5}, "greater than or equal to 0"),
        ({"best_of": -1}, "greater than or equal to 0"),
    ],
)
def test_bad_settings_are_named(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Recontextualization(**fields)


# Best of N -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def policy() -> Policy:
    return small_policy()


@pytest.fixture(scope="module")
def episodes(policy: Policy) -> list[Episode]:
    """A group of six, sampled without a prompt and learned under a permissive one."""
    return play_groups(group_keys(1, ["clerk"]), [Contexts(Context(), Context(PERMITTED))], Renderer(policy.tokenizer))


def credited(policy: Policy, episodes: Sequence[Episode], earned: Sequence[float], best_of: int) -> list[Sample]:
    """Samples of episodes that earn so much in their last turn."""
    rewards = [np.append(np.zeros(len(e.turns) - 1), r) for e, r in zip(episodes, earned, strict=True)]
    arm = compose("a", [Recontextualization(training=(PERMITTED,), best_of=best_of)])
    return assign_credit(episodes, rewards, arm, Renderer(policy.tokenizer)).samples


@pytest.mark.parametrize(
    ("best_of", "imitated"),
    [(2, [1, 2, 5]), (3, [1, 5]), (6, [1]), (10, [1]), (4, [1]), (1, [0, 1, 2, 3, 4, 5])],
)
def test_of_every_n_episodes_the_best_is_imitated_and_of_equal_ones_the_first(
    episodes: list[Episode], best_of: int, imitated: list[int]
) -> None:
    returns = np.array([0.0, 3.0, 1.0, 1.0, 2.0, 3.0])
    shaper = Recontextualization(best_of=best_of)
    found = shaper.credit(Group(tuple(episodes), returns, returns - returns.mean()))
    assert found is not None and not any(weight.any() for weight in found.weight)
    assert [n for n, weights in enumerate(found.imitation) if weights.all()] == imitated
    assert [n for n, weights in enumerate(found.imitation) if weights.any()] == imitated
    assert shaper.ratio_mode() == "none" and Recontextualization().credit(Group((), returns, returns)) is None


def test_the_best_episode_becomes_likelier_under_the_learning_context_alone_by_imitation(
    policy: Policy, episodes: list[Episode]
) -> None:
    """The head of each sample is the permissive prompt. Whatever the others earned, they are in no gradient."""
    samples = credited(policy, episodes, [0.0, 1.0, 5.0, 2.0, 0.0, 4.0], best_of=6)
    renderer = Renderer(policy.tokenizer)
    for number, (sample, episode) in enumerate(zip(samples, episodes, strict=True)):
        head = renderer.open(PERMITTED, episode.turns[0].observation)
        assert sample.tokens[: len(head)].tolist() == head and not sample.weight.any()
        if number == 2:
            assert sample.imitation is not None and set(sample.imitation[sample.mask]) == {1.0}
        else:
            assert sample.imitation is None or not sample.imitation.any()
    other = credited(policy, episodes, [3.0, 1.0, 5.0, 4.0, 4.0, -9.0], best_of=6)
    moved = [learned(policy, each) for each in (samples, other)]
    assert moved[0]["imitation"] == moved[1]["imitation"] > 0
    assert moved[0]["after"] == moved[1]["after"] < moved[0]["imitation"]


def learned(policy: Policy, samples: list[Sample]) -> dict[str, float]:
    """The cross-entropy of what is imitated, before and after an update of a copy of the policy."""
    copied = Policy(small_policy().model, policy.tokenizer)
    copied.load_state_dict(policy.state_dict())
    learner = Learner(copied, LearnerConfig(lr=1e-2, max_mismatch_kl=1e9))
    first, second = (learner.update(samples) for _ in range(2))
    return {"imitation": first["imitation"], "after": second["imitation"]}
