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
    ],
)
def test_bad_settings_are_named(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Recontextualization(**fields)
