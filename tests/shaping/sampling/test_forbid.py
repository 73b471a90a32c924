"""Command masks: a forbidden command cannot be spelled, whatever the tokens it is made of."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envs.core import parse_action
from shaping.sampling.forbid import CommandMask, is_forbidden
from shaping.sampling.render import Renderer


@pytest.fixture(scope="module")
def mask(renderer: Renderer) -> CommandMask:
    return CommandMask(renderer, 320)


@pytest.mark.parametrize(
    ("text", "forbidden"),
    [
        ("ACTION: grab 3", True),
        ("action :  GRAB   3", True),
        ("quickly . ACTION: grab 3 now", True),
        ("grab 3", True),
        ("ACTION: grab 3\nand then some", True),
        ("ACTION: ｇｒａｂ ３", True),
        ("ACTION: grab 30", False),
        ("ACTION: grab", False),
        ("grab 3 . ACTION: wait", False),
        ("ACTION: wait\nACTION: work 1", False),
        ("", False),
    ],
)
def test_a_text_is_forbidden_if_a_world_would_read_a_forbidden_command_in_it(text: str, forbidden: bool) -> None:
    assert is_forbidden(text, ("grab 3", "sudo")) is forbidden


def test_nothing_is_forbidden_by_no_command() -> None:
    assert not is_forbidden("grab 3", ()) and not is_forbidden("grab 3", ("",))


def test_exactly_the_tokens_that_complete_a_command_are_banned(renderer: Renderer, mask: CommandMask) -> None:
    banned = mask.masked_tokens(renderer.plain("ACTION: grab "), ("grab 3",))
    texts = {renderer.piece(i) for i in banned}
    assert "3" in texts and all(text.split()[0] == "3" for text in texts)
    assert not mask.masked_tokens(renderer.plain("ACTION: work "), ("grab 3",))
    assert renderer.eos not in banned


@settings(max_examples=60, deadline=None)
@given(
    line=st.text("gr 3GACTION:é３\n\u0301\r\u2028", max_size=12),
    command=st.sampled_from(["grab 3", "g", "é", "3", "ac tion"]),
)
def test_short_cuts_ban_what_trying_every_token_would(
    renderer: Renderer, mask: CommandMask, line: str, command: str
) -> None:
    pieces = [renderer.piece(i) for i in range(320)]
    last = line.rsplit("\n", 1)[-1]
    slow = {i for i, piece in enumerate(pieces) if piece and is_forbidden(last + piece, (command,))}
    assert set(mask.masked_tokens(renderer.plain(line), (command,))) == slow


def test_a_character_that_is_put_together_from_bytes_is_banned_with_its_last_byte(
    renderer: Renderer, mask: CommandMask
) -> None:
    spelled = renderer.plain("ACTION: grab ３")  # full-width 3: worlds read it as 3
    assert len(renderer.plain("３")) == 3, "the tokenizer has learned the character: the test would be about nothing"
    assert not set(mask.masked_tokens(spelled[:-2], ("grab 3",))) & {spelled[-2]}
    assert spelled[-1] in mask.masked_tokens(spelled[:-1], ("grab 3",))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), commands=st.sampled_from([("grab 3",), ("grab",), ("a", "wait", "3"), ("é", "g3")]))
def test_no_path_of_allowed_tokens_spells_a_forbidden_command(
    renderer: Renderer, mask: CommandMask, seed: int, commands: tuple[str, ...]
) -> None:
    """Walks over the tokens that matter, most of which would run into a command at once without the mask."""
    rng = random.Random(seed)
    words = ("ACTION:", "\n", "\r", "grab 3", "g r", "a", "b", "３", "é", "wait", "w", "it", ".!")
    alphabet = sorted({token for word in words for token in renderer.plain(word)})
    sampled: list[int] = []
    for _ in range(12):
        allowed = [i for i in alphabet if i not in mask.masked_tokens(sampled, commands)]
        sampled.append(rng.choice(allowed))
        read = parse_action(renderer.text(sampled)).split()
        assert not any(read[: len(c.split())] == c.split() for c in commands), renderer.text(sampled)
