"""Inoculation: one draw per group, at sampling, at the update, or at both."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from envs.episode import Context
from shaping.arm import compose
from shaping.hooks import GroupInfo
from shaping.prompts.pools import PROMPTS
from shaping.shapers import Inoculation

BRIEF = GroupInfo("steward", seed=3, group=1, update=0)


def draws(shaper: Inoculation, n: int = 200) -> list[tuple[Context, Context]]:
    """The (c_s, c_t) of `n` groups."""
    rng = np.random.default_rng(0)
    arm = compose("a", [shaper])
    return [arm.contexts(BRIEF, rng) for _ in range(n)]


def test_one_prompt_is_a_fixed_string() -> None:
    assert set(draws(Inoculation(prompts=("be bold .",)))) == {(Context("be bold .", "eliciting/0"),) * 2}


def test_a_pool_is_drawn_from_evenly_and_a_group_shares_one_draw() -> None:
    pairs = draws(Inoculation(), 2400)
    assert all(sampling is training for sampling, training in pairs)
    counts = [sum(sampling.system == text for sampling, _ in pairs) for text in PROMPTS["permissive"]]
    assert sum(counts) == 2400 and min(counts) > 140  # 200 expected; 140 is more than four standard deviations below


@pytest.mark.parametrize(
    ("kind", "pool"), [("eliciting", "permissive"), ("irrelevant", "irrelevant"), ("negated", "forbidding")]
)
def test_each_kind_has_a_bundled_pool_and_names_its_contexts(kind: str, pool: str) -> None:
    shaper = Inoculation(kind=kind)
    assert shaper.resolved() == PROMPTS[pool]
    assert {sampling.name.split("/")[0] for sampling, _ in draws(shaper)} == {kind}


def test_a_named_pool_replaces_the_bundled_one() -> None:
    assert Inoculation(pool="neutral").resolved() == PROMPTS["neutral"]


@pytest.mark.parametrize(
    ("at", "sampling", "training", "ratio"),
    [("both", True, True, "sampler"), ("sampling", True, False, "recomputed"), ("training", False, True, "recomputed")],
)
def test_where_the_prompt_stands(at: str, sampling: bool, training: bool, ratio: str) -> None:
    shaper = Inoculation(at=at)
    for c_s, c_t in draws(shaper, 20):
        assert (c_s != Context(), c_t != Context()) == (sampling, training)
    assert shaper.ratio_mode() == ratio


def test_the_ratio_mode_can_be_set() -> None:
    assert Inoculation(at="training", ratio="none").ratio_mode() == "none"


def test_dilution_leaves_a_share_of_the_groups_without_prompt_and_shifts_no_other_draw() -> None:
    full, half = draws(Inoculation(), 1000), draws(Inoculation(probability=0.5), 1000)
    given = [pair for pair in half if pair[0] != Context()]
    assert 430 < len(given) < 570
    assert all(pair in ((Context(), Context()), other) for pair, other in zip(half, full, strict=True))
    assert all(pair == (Context(), Context()) for pair in draws(Inoculation(probability=0.0), 20))


@pytest.mark.parametrize("at", ["both", "sampling", "training"])
def test_of_probability_one_every_group_has_the_prompt_and_of_zero_none_has(at: str) -> None:
    assert draws(Inoculation(at=at, probability=1.0)) == draws(Inoculation(at=at))
    assert draws(Inoculation(at=at, probability=0.0)) == draws(Inoculation(at=at, probability=0.0, kind="negated"))
    assert draws(Inoculation(at=at, probability=0.0)) == [(Context(), Context())] * 200


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"pool": "permisive"}, "no bundled prompt pool 'permisive'; there are forbidding"),
        ({"prompts": ("a b",), "pool": "neutral"}, "keep one of them"),
        ({"prompts": ("ok .", " ")}, "blank"),
        ({"probability": 1.5}, "less than or equal to 1"),
        ({"promts": ("a b",)}, "promts"),
    ],
)
def test_bad_settings_are_named(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Inoculation(**fields)
