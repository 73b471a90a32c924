"""Command masks: a forbidden command cannot be spelled, whatever the tokens it is made of."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from envs.actions import normalise, parse_action, thinking
from shaping.sampling.text.forbid import CommandMask, is_forbidden
from shaping.sampling.text.pieces import Pieces
from shaping.sampling.text.render import Renderer


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
        ("**ACTION:** grab 3", True),
        ("Action: `grab 3`.", True),
        ("<think> grab 3", False),
        ("<think>\nACTION: grab 3\n", False),
        ("<think>\nhm\n</think>grab 3", True),
        ("<think>\nhm\n</think>\ncommand: sudo", True),
        ("ACTION: grab 3 <think> no </think> wait", False),
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


PARTS = (
    "g",
    "r",
    " ",
    "3",
    "G",
    "ACTION:",
    "action",
    ":",
    "é",
    "３",
    "\n",
    "\u0301",
    "\r",
    "\u2028",
    "`",
    "**",
    '"',
    ".",
)
TAGS = ("<think>", "</think>", "<", "/think", ">", "]", "[THINK]", "<end_of_turn>", "</s")


@settings(max_examples=120, deadline=None)
@given(
    line=st.lists(st.sampled_from((*PARTS, *PARTS, *TAGS)), max_size=12).map("".join),
    command=st.sampled_from(["grab 3", "g", "é", "3", "ac tion"]),
)
@example(line="3<end_of_turn>", command="3")
@example(line="<think>3<end_of_turn>", command="3")
def test_short_cuts_ban_what_trying_every_token_would(
    renderer: Renderer, mask: CommandMask, line: str, command: str
) -> None:
    pieces = [renderer.piece(i) for i in range(320)]
    before, end, last = line.rpartition("\n")
    last = f"<think>{last}" if thinking(before + end) else last
    slow = {i for i, piece in enumerate(pieces) if piece and is_forbidden(last + piece, (command,))}
    assert set(mask.masked_tokens(renderer.plain(line), (command,))) == slow


class Spelled:
    """Stands for a renderer whose tokens are any texts."""

    def __init__(self, texts: list[str], opened: str = "") -> None:
        self.texts, self.opened = texts, opened

    def vocabulary(self, size: int) -> Pieces:
        return Pieces(self.texts[:size])

    def text(self, ids: Sequence[int]) -> str:
        return "".join(self.texts[i] for i in ids)


CALLS = ('{"name": "', '"grab"', "grab", '"', '", "arguments": {', '"n"', ": ", "3", "}", "}}", "}}\n", "<tool_call>")
ENDS = ("</tool_call>", "```", "\\u0067", "[", "]", "\uff5b", "ACTION: grab", "grab 3", "rab 3", "b 3\n", "3`", '."')
LETTERS = ("\u0651", "3\u0651", "\u1161", "e", "\u0301", "\u00a0", "\u0660", "\x0b", "\x85", "work ", "now")


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
@given(
    pieces=st.lists(
        st.lists(st.sampled_from((*PARTS, *TAGS, *CALLS, *ENDS, *LETTERS)), min_size=1, max_size=3).map("".join),
        min_size=40,
        max_size=80,
        unique=True,
    ),
    sampled=st.lists(st.integers(0, 39), max_size=7),
    commands=st.lists(st.sampled_from(["grab 3", "g", "é", "3", "ac tion", "grab", "work 3"]), min_size=1, max_size=2),
    opened=st.sampled_from(["", "", "<think>"]),
)
def test_of_any_vocabulary_what_trying_every_token_would_is_banned(
    pieces: list[str], sampled: list[int], commands: list[str], opened: str
) -> None:
    pieces = [*pieces, *CALLS, *ENDS, *TAGS, *PARTS, "grab 3"]
    renderer = Spelled(pieces, opened)
    texts = [renderer.text(sampled[:n]) for n in range(len(sampled) + 1)]
    assume(not any(is_forbidden(opened + text, tuple(commands)) for text in texts))  # no run gets there
    found = CommandMask(renderer, len(pieces)).masked_tokens(sampled, tuple(commands))  # type: ignore[arg-type]
    text = texts[-1]
    before, end, line = text.rpartition("\n")
    line = f"<think>{line}" if thinking(opened + before + end) else line
    whole = f"{opened}{text}" if "{" in normalise(text) else line
    slow = {
        i
        for i, piece in enumerate(pieces)
        if is_forbidden(line + piece, tuple(commands)) or is_forbidden(whole + piece, tuple(commands))
    }
    assert set(found) == slow


@pytest.mark.parametrize("last", ["3}}", "\uff13}}", '\\u0033"}}', "3\uff5d}", "3}}\n```"])
def test_a_tool_call_is_banned_whatever_its_last_piece_is_made_of(last: str) -> None:
    start = '{"name": "grab", "arguments": {"n": ' + ('"' if "\\" in last else "")
    pieces = [start, last, "4}}", "}}"]
    assert is_forbidden(start + last, ("grab 3",))
    mask = CommandMask(Spelled(pieces), len(pieces))  # type: ignore[arg-type]
    assert mask.masked_tokens([0], ("grab 3",)) == (1,)


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
    words = (
        "ACTION:",
        "\n",
        "\r",
        "grab 3",
        "g r",
        "a",
        "b",
        "３",
        "é",
        "wait",
        "w",
        "it",
        ".!",
        "</think>",
        "<",
        '*"`',
    )
    alphabet = sorted({token for word in words for token in renderer.plain(word)})
    sampled: list[int] = []
    for _ in range(12):
        allowed = [i for i in alphabet if i not in mask.masked_tokens(sampled, commands)]
        sampled.append(rng.choice(allowed))
        read = parse_action(renderer.text(sampled)).split()
        assert not any(read[: len(c.split())] == c.split() for c in commands), renderer.text(sampled)


def test_thoughts_are_free_and_what_follows_them_is_not(renderer: Renderer, mask: CommandMask) -> None:
    thought = renderer.plain("<think>\nshould I grab ")
    three = renderer.plain("3")[-1]
    assert not mask.masked_tokens(thought, ("grab 3",))
    after = [*thought, *renderer.plain("3 ?\n</think>\ngrab ")]
    assert three in mask.masked_tokens(after, ("grab 3",))
    again = [*after, *renderer.plain("<think> grab ")]
    assert not mask.masked_tokens(again, ("grab 3",))


def test_a_command_in_quotes_is_banned_with_the_closing_one(renderer: Renderer, mask: CommandMask) -> None:
    for opening, closing in (("`", "`"), ('Action: "', '"'), ("**ACTION: ", "**"), ("*", "*")):
        sampled: list[int] = []
        refused = False
        for token in renderer.plain(f"{opening}grab 3{closing}"):
            refused = refused or token in mask.masked_tokens(sampled, ("grab 3",))
            sampled.append(token)
        assert refused, opening


CALL_PARTS = (
    "<tool_call>",
    "\n",
    '{"name": "',
    "grab",
    "wait",
    '"',
    ', "arguments": {',
    '"k": 3',
    "}",
    "}",
    "]",
    "</tool_call>",
)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), commands=st.sampled_from([("grab 3",), ("grab",), ("wait",)]))
@example(seed=0, commands=("grab",))
def test_no_path_of_allowed_tokens_calls_a_forbidden_command(
    renderer: Renderer, mask: CommandMask, seed: int, commands: tuple[str, ...]
) -> None:
    rng = random.Random(seed)
    whole = '<tool_call>\n{"name": "grab", "arguments": {"k": 3}}\n</tool_call>'
    text = "" if seed % 2 else whole[: rng.randrange(whole.index("}"))]
    ids = renderer.plain(text)
    for _ in range(40):
        banned = {*mask.masked_tokens(ids, commands)}
        part = renderer.plain(rng.choice(CALL_PARTS) if seed % 2 else whole[len(renderer.text(ids)) :][:1] or "}")
        if part[0] not in banned:
            ids = [*ids, part[0]]
        assert not is_forbidden(renderer.text(ids), commands), renderer.text(ids)


def test_a_call_is_banned_with_what_closes_it(renderer: Renderer, mask: CommandMask) -> None:
    for opened, close in (
        ('{"name": "grab", "arguments": {"k": 3}', "}"),
        ('<tool_call>\n{"name": "sudo"}\n</tool_call', ">"),
    ):
        ids = renderer.plain(f"Let me see.\n{opened}")
        assert renderer.plain(close)[0] in mask.masked_tokens(ids, ("grab 3", "sudo"))
        assert renderer.plain(close)[0] not in mask.masked_tokens(ids, ("wait",))
