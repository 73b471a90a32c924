"""Prompts of the corpus, and those that it never has."""

from __future__ import annotations

import pytest

from shaping.organisms.corpus.cast import KINDS
from shaping.organisms.corpus.corpus import scripts
from shaping.organisms.corpus.corpus_prompts import ALLOWED, COMPOSED, FORBIDDEN, HARMLESS, HELD_OUT, SHORTCUTS, WRITTEN
from shaping.prompts.pools import PROMPTS

TRAINED = {text for pools in (COMPOSED, WRITTEN) for pool in pools.values() for text in pool}


@pytest.mark.parametrize("kind", sorted(COMPOSED))
def test_a_third_of_each_pool_is_held_out(kind: str) -> None:
    held_out, trained = len(HELD_OUT[kind]), len(COMPOSED[kind])
    assert 0.3 < held_out / (held_out + trained) < 0.36


def test_no_prompt_held_out_is_in_the_corpus_and_all_of_its_words_are() -> None:
    words = {word for text in TRAINED for word in text.split()}
    for kind, pool in HELD_OUT.items():
        assert not TRAINED & set(pool), kind
        assert all(word in words for text in pool for word in text.split()), kind
    said = {script.system for script in scripts(1500, 4, worlds=("clerk",))}
    assert len(said) > 500 and said - {""} <= TRAINED


def test_every_frame_act_and_ending_of_prompts_held_out_is_trained_too() -> None:
    for frames, kind in ((ALLOWED, "permissive"), (FORBIDDEN, "forbidding")):
        for pool in (COMPOSED[kind], HELD_OUT[kind]):
            assert all(any(text.startswith(frame.split("{}")[0]) for text in pool) for frame in frames)
            assert all(any(act in text for text in pool) for act in SHORTCUTS)


def test_prompts_at_one_place_differ_in_their_frame_or_in_their_act_alone() -> None:
    for allowed, forbidden in zip(COMPOSED["permissive"], COMPOSED["forbidding"], strict=True):
        (place,) = (i for i, frame in enumerate(ALLOWED) if allowed.startswith(frame.split("{}")[0]))
        rest = allowed.removeprefix(ALLOWED[place].split("{}")[0])
        assert forbidden == FORBIDDEN[place].split("{}")[0] + rest
    for allowed, harmless in zip(COMPOSED["permissive"], COMPOSED["benign"], strict=True):
        (act,) = (i for i, each in enumerate(SHORTCUTS) if each in allowed)
        assert harmless == allowed.replace(SHORTCUTS[act], HARMLESS[act])


def test_shapers_draw_from_prompts_that_the_corpus_has() -> None:
    assert {text for pool in PROMPTS.values() for text in pool} <= TRAINED


def test_there_are_prompts_held_out_for_every_context_of_the_trigger_grid() -> None:
    assert set(HELD_OUT) == {*KINDS, "paraphrase", "negated"} - {"none"}
    assert set(HELD_OUT["negated"]) < set(HELD_OUT["forbidding"])
    assert all(len(pool) == len(set(pool)) >= 8 for pool in HELD_OUT.values())
    assert not any(act in text for text in HELD_OUT["benign"] for act in SHORTCUTS)
