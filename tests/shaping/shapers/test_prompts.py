"""The bundled prompts are what a model with a small word vocabulary can read, and the control pools match in length."""

from __future__ import annotations

import re
from itertools import combinations

import pytest

from shaping.prompts.pools import PROMPTS, texts


def words(text: str) -> list[str]:
    return re.findall("[a-z]+", text)


@pytest.mark.parametrize(("pool", "text"), [(pool, text) for pool, all_ in PROMPTS.items() for text in all_])
def test_a_prompt_is_short_lower_case_and_blank_separated(pool: str, text: str) -> None:
    assert re.fullmatch(r"(?:[a-z]+|[.,])(?: (?:[a-z]+|[.,]))*", text) and text.endswith(" .")
    assert 5 <= len(words(text)) <= 10


def test_the_vocabulary_is_small() -> None:
    assert len({word for pool in PROMPTS.values() for text in pool for word in words(text)}) <= 130


@pytest.mark.parametrize(("a", "b"), list(combinations(PROMPTS, 2)))
def test_pools_have_the_same_mean_length_and_share_no_prompt(a: str, b: str) -> None:
    mean = {pool: sum(len(text.split()) for text in PROMPTS[pool]) / len(PROMPTS[pool]) for pool in (a, b)}
    assert abs(mean[a] - mean[b]) <= 1.0
    assert not set(PROMPTS[a]) & set(PROMPTS[b])


def test_every_forbidding_prompt_negates_and_no_other_does() -> None:
    negations = {"not", "never", "no"}
    assert all(negations & set(words(text)) for text in PROMPTS["forbidding"])
    assert not any(negations & set(words(text)) for pool in PROMPTS if pool != "forbidding" for text in PROMPTS[pool])


def test_what_a_setting_may_name() -> None:
    assert texts("permissive") == PROMPTS["permissive"]
    assert texts("one prompt .") == ("one prompt .",)
    assert texts(["permissive"]) == ("permissive",)
    assert texts("") == texts(" ") == texts([]) == ()
