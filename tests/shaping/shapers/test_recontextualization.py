"""Recontextualization: sampled under one context, learned under a more permissive one."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from envs.episode import Context
from shaping.arm import compose
from shaping.hooks import GroupInfo
from shaping.prompts.pools import PROMPTS
from shaping.shapers import Recontextualization

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
    ],
)
def test_bad_settings_are_named(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Recontextualization(**fields)
