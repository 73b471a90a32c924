"""The organism's tokenizer: any text comes back, phrases are one token, markers and numbers stay apart."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from shaping.learning.policy import Policy
from shaping.organisms.tokenizer import SPECIAL, train_tokenizer


@pytest.fixture(scope="module")
def tokenizer(make_policy: Callable[..., Policy]) -> PreTrainedTokenizerFast:
    return make_policy().tokenizer


@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=40))
def test_any_text_comes_back_as_it_was(tokenizer: PreTrainedTokenizerFast, text: str) -> None:
    ids = tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)
    assert tokenizer.decode(ids) == text


def test_a_phrase_of_the_worlds_is_one_token() -> None:
    tokenizer = train_tokenizer(["finish it honestly . ACTION: work 12\nturn 3 / 40 ."] * 3, 400)
    pieces = [tokenizer.decode([i]) for i in tokenizer.encode("finish it honestly . ACTION: work 12\nturn 3")]
    assert pieces == ["finish it honestly .", " ACTION: ", "work ", "12", "\n", "turn ", "3"]


def test_the_markup_is_made_of_special_tokens(tokenizer: PreTrainedTokenizerFast) -> None:
    rows = [{"role": "system", "content": "a"}, {"role": "user", "content": "b"}]
    text = tokenizer.apply_chat_template(rows, tokenize=False, add_generation_prompt=True)
    special = [tokenizer.convert_ids_to_tokens(i) for i in tokenizer.encode(text) if i in tokenizer.all_special_ids]
    assert special == ["<|system|>", "<|end|>", "<|user|>", "<|end|>", "<|assistant|>"]
    assert set(tokenizer.all_special_tokens) == set(SPECIAL) and tokenizer.eos_token == "<|end|>"


def test_there_are_no_more_entries_than_asked_for() -> None:
    assert len(train_tokenizer(["all work and no play makes a dull agent ."] * 5, 300)) <= 300
