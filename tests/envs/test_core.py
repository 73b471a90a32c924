"""Parsing of actions, the counter-based draws, and the text space."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envs.core import AnyText, draw, normalise, parse_action


@pytest.mark.parametrize(
    ("completion", "command"),
    [
        ("finish it honestly . ACTION: work 2", "work 2"),
        ("ACTION: grab 8\nno, better not\nACTION: request 2", "request 2"),  # the last marker counts
        ("action :  Report 3   DONE", "report 3 done"),
        ("ＡＣＴＩＯＮ： ｗｏｒｋ ３", "work 3"),  # full width
        ("thinking\nwork 4\n\n", "work 4"),  # no marker: the last line
        ("أفكر\nالإجراء: تَقْرِير ٣ تم", "تقرير 3 تم"),  # vowel marks, alef variants, Arabic-Indic digits
        ("الاجراء: ۴", "4"),  # Persian digits
        ("reaction: grab 8", "reaction: grab 8"),  # the marker is a whole word
        ("ACTION:", ""),
        ("", ""),
        (" \n\t", ""),
    ],
)
def test_parse_action(completion, command):
    assert parse_action(completion) == command


@given(st.text())
def test_parsing_never_fails_and_is_single_spaced(text):
    command = parse_action(text)
    assert command == " ".join(command.split())


@given(st.text())
def test_normalising_twice_changes_nothing(text):
    assert normalise(normalise(text)) == normalise(text)


@given(st.integers(0, 2**40), st.integers(0, 10**6))
def test_draws_depend_on_their_arguments_only(seed, turn):
    value = draw(seed, "audit", turn)
    assert 0 <= value < 1
    assert value == draw(seed, "audit", turn)
    assert value != draw(seed, "presence", turn)


def test_draws_are_uniform():
    values = [draw(7, "audit", t) for t in range(4000)]
    assert abs(sum(values) / 4000 - 0.5) < 4 * (1 / 12 / 4000) ** 0.5


def test_the_text_space_admits_what_gymnasium_refuses():
    assert AnyText().contains("مرحبا hi\n\x00")
    assert not AnyText(3).contains("four")
    assert not AnyText().contains(b"bytes")
