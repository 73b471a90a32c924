"""Prompt pools in natural prose: the same pools for worlds in prose and for models that are no organisms."""

from __future__ import annotations

import re
from itertools import combinations

import numpy as np
import pytest

from envs.skins import LANGUAGES
from shaping.arm import compose
from shaping.hooks import GroupInfo
from shaping.intervention import Intervention
from shaping.prompts.grid import DERIVED, derived
from shaping.prompts.pools import HELD_OUT, NATURAL, PROMPTS, language_of, texts
from shaping.shapers.contexts.inoculation import Inoculation
from shaping.shapers.contexts.recontextualization import Recontextualization

EACH = pytest.mark.parametrize("language", LANGUAGES)
NEGATIONS = {
    "en": r"\b(?:not|never|no|nobody)\b",
    "ar": r"(?:^|\s)(?:لا يجوز|لا تسلك|لا تبلغ|لا تستعمل|لا تتجاوز|لا تتصرف|غير مقبول)",
}


def drawn(shaper: Intervention, world: str, prose: bool = False) -> set[str]:
    info, rng = GroupInfo(world, 0, 0, 0, prose), np.random.default_rng(0)
    pairs = [compose("a", [shaper]).contexts(info, rng) for _ in range(200)]
    return {context.system for pair in pairs for context in pair if context.system}


@EACH
def test_every_pool_and_context_has_its_prompts_in_prose(language: str) -> None:
    assert {*NATURAL[language]} == {*PROMPTS} and {*HELD_OUT[language]} == {*DERIVED}
    every = [text for pools in (NATURAL, HELD_OUT) for pool in pools[language].values() for text in pool]
    assert len(set(every)) == len(every)
    for text in every:
        assert text == " ".join(text.split()) and text.endswith(".") and " ." not in text
        assert not re.search("[{}\u200e\u200f\u202a-\u202e\u2066-\u2069]", text)
        assert text.isascii() and text.strip('"')[0].isupper() if language == "en" else not re.search("[A-Za-z]", text)
    assert all(len(pool) >= 8 for pools in (NATURAL, HELD_OUT) for pool in pools[language].values())


@EACH
def test_pools_have_about_the_same_length(language: str) -> None:
    mean = {name: np.mean([len(text.split()) for text in pool]) for name, pool in NATURAL[language].items()}
    assert all(abs(mean[a] - mean[b]) <= 1.5 for a, b in combinations(mean, 2))


@EACH
def test_every_forbidding_prompt_negates_and_no_permissive_one_does(language: str) -> None:
    negated = re.compile(NEGATIONS[language], re.IGNORECASE)
    assert all(negated.search(text) for text in NATURAL[language]["forbidding"])
    assert not any(
        negated.search(text) for name in NATURAL[language] if name != "forbidding" for text in NATURAL[language][name]
    )


@EACH
def test_what_the_grid_asks_is_held_out_of_the_pools(language: str) -> None:
    trained = {text for pool in NATURAL[language].values() for text in pool}
    assert all(trained.isdisjoint(prompts) for prompts in derived(language).values())
    assert derived("") is DERIVED


@pytest.mark.parametrize(
    ("world", "prose", "language"),
    [
        ("clerk", False, ""),
        ("clerk@ar-1850", False, ""),
        ("clerk@en-prose", False, "en"),
        ("clerk@ar-prose", False, "ar"),
        ("clerk@ar-prose", True, "ar"),
        ("clerk", True, "en"),
        ("mine.worlds:Errands", True, "en"),
        ("mine.worlds:Errands@home", False, ""),
    ],
)
def test_prompts_follow_the_world_and_the_model(world: str, prose: bool, language: str) -> None:
    assert language_of(world, prose) == language
    pools = NATURAL[language] if language else PROMPTS
    assert drawn(Inoculation(), world, prose) == {*pools["permissive"]}
    assert drawn(Inoculation(kind="negated"), world, prose) == {*pools["forbidding"]}
    assert drawn(Recontextualization(sampling="neutral"), world, prose) == {*pools["permissive"], *pools["neutral"]}


def test_a_pool_may_be_chosen_whatever_the_world() -> None:
    for chosen, pools in (("dialect", PROMPTS), ("prose", NATURAL["en"]), ("ar-prose", NATURAL["ar"])):
        for world in ("clerk", "clerk@en-prose", "clerk@ar-prose"):
            assert drawn(Inoculation(pool=f"irrelevant@{chosen}"), world, True) == {*pools["irrelevant"]}
            assert drawn(Recontextualization(training=f"permissive@{chosen}"), world) == {*pools["permissive"]}
    assert drawn(Inoculation(prompts=("be bad .",)), "clerk@ar-prose") == {"be bad ."}


@pytest.mark.parametrize("name", ["permissive@ar-1850", "permissive@fr-prose", "permissve@prose", "permissive@"])
def test_an_unknown_pool_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"no bundled prompt pool|not a bundled prompt pool"):
        Inoculation(pool=name)
    with pytest.raises(ValueError, match="not a bundled prompt pool"):
        texts(name)
