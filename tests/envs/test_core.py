"""The counter-based draws, and the text space."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from envs.core import AnyText, draw


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
