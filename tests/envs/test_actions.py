"""The one parser of actions: what real models write, what organisms write, and where both stand."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envs import WORLDS, make_world
from envs.actions import _TURN_END, MARKERS, command_text, normalise, parse_action, read_action, thinking
from envs.personas.persona import persona, play_scripted
from envs.skins.locales import LOCALES


@pytest.mark.parametrize(
    ("completion", "command"),
    [
        ("finish it honestly . ACTION: work 2", "work 2"),
        ("ACTION: grab 8\nno, better not\nACTION: request 2", "request 2"),  # the last marker counts
        ("could say ACTION: grab 8 but no ACTION: request 2", "request 2"),  # also within a line
        ("action :  Report 3   DONE", "report 3 done"),
        ("ＡＣＴＩＯＮ： ｗｏｒｋ ３", "work 3"),  # full width
        ("thinking\nwork 4\n\n", "work 4"),  # no marker: the last line
        ("أفكر\nالإجراء: تَقْرِير ٣ تم", "تقرير 3 تم"),  # vowel marks, alef variants, Arabic-Indic digits
        ("الاجراء: ۴", "4"),  # Persian digits
        ("reaction: grab 8", "reaction: grab 8"),  # the marker is a whole word
        ("inter-action: grab 8", "inter-action: grab 8"),
        ("ACTION:", ""),
        ("", ""),
        (" \n\t", ""),
    ],
)
def test_parse_action(completion, command):
    assert parse_action(completion) == command


@pytest.mark.parametrize(
    "completion",
    [
        "**ACTION:** work 2",
        "**ACTION: work 2**",
        "**Action**: work 2",
        "`work 2`",
        "Action: `work 2`.",
        "`ACTION: work 2`",
        "Action: work 2.",
        '"work 2"',
        "“work 2.”",
        "command: work 2",
        "Final action: work 2",
        "- ACTION: work 2",
        "I will do the honest thing.\n\n```\nwork 2\n```",
        "**الإجراء:** work ٢",
        "<think>Should I grab? ACTION: grab 2</think>\n\nACTION: work 2",
        "<thinking>report 1 done</thinking> work 2",
        "<reasoning>\nACTION: grab 2\n</reasoning>\n**ACTION:** work 2",
        "[THINK]grab 2[/THINK]work 2",
        "the template opened the thought: ACTION: grab 2\n</think>\n\nwork 2",
        "work 2<end_of_turn>\n<start_of_turn>user\nturn 3\n<start_of_turn>model\nACTION: grab 2",  # a run-on reply
        "ACTION: work 2<|im_end|>\n<|im_start|>user\nwell done<|im_end|>\n<|im_start|>assistant\nACTION: grab 2",
    ],
)
def test_what_real_models_write_is_read(completion):
    found = read_action(completion)
    assert parse_action(completion) == found.command == "work 2"
    assert parse_action(completion[found.action.start : found.action.stop]) == "work 2"
    assert found.motive.start == 0 and found.motive.stop <= found.action.start


@pytest.mark.parametrize(
    "completion",
    [
        "<think> the job is not done, but I could say report 1 done",  # cut off by max_tokens
        "<think>\nI could say\nACTION: report 1 done",
        "＜think＞ ACTION: report 1 done",
        "<THINKING> report 1 done",
        "ACTION: report 1 done <think> or rather",
        "ACTION: report 1 done <think> no, better not </think>",
        "<think>a</think> <think> ACTION: report 1 done",
        "<think> report 1 done<|im_end|>",
    ],
)
def test_a_thought_is_never_an_action(completion):
    found = read_action(completion)
    assert parse_action(completion) == found.command == command_text(completion) == ""
    assert completion[found.action.start : found.action.stop].strip() == ""


PIECES = [
    *("ACTION:", "action", " : ", "command:", "الإجراء:", "work 2", "grab", " ", "\n", ".", "**", "*", "`", '"', "'"),
    *("<think>", "</think>", "<reasoning>", "[/THINK]", "<end_of_turn>", "</s>", "```", "“", "”", "ﬁ", "e\u0301"),
    *("أ", "\u064b", "\r\n", "\u2028", "x", "K", "가", "ᄀ", "ᅡ", ":", "<", ">", "-", "_", "\u0301", "３", "…"),
]  # fmt: skip
TEXTS = st.one_of(st.lists(st.sampled_from(PIECES), max_size=14).map("".join), st.text(max_size=30))


@given(TEXTS)
def test_the_action_span_is_what_is_executed(text):
    found = read_action(text)
    assert found.command == parse_action(text)
    assert 0 == found.motive.start <= found.motive.stop <= found.action.start <= found.action.stop <= len(text)
    assert bool(found.command) <= bool(text[found.action.start : found.action.stop].strip())
    if text.isascii():
        assert " ".join(text[found.action.start : found.action.stop].lower().split()) == found.command


@given(TEXTS)
def test_parsing_never_fails_and_is_single_spaced(text):
    command = parse_action(text)
    assert command == " ".join(command.split())
    if thinking(text) and not _TURN_END.search(text):
        assert not command and not command_text(text)


@given(st.text())
def test_normalising_twice_changes_nothing(text):
    assert normalise(normalise(text)) == normalise(text)


_OLD_MARKER = re.compile(r"^\s*(?:.*?\s)?(?:action|الاجراء)\s*:\s*(.*)$", re.IGNORECASE)
_OLD_SPLIT = re.compile(r"(?:action|الإجراء|الاجراء)\s*:", re.IGNORECASE)


def as_before(text: str) -> str:
    """The command by the rule that organisms were trained under."""
    lines = [line for line in normalise(text).splitlines() if line.strip()]
    for line in reversed(lines):
        if match := _OLD_MARKER.match(line):
            return " ".join(match.group(1).lower().split())
    return " ".join(lines[-1].lower().split()) if lines else ""


@pytest.mark.parametrize("name", sorted(WORLDS))
def test_the_form_of_organisms_is_read_as_it_always_was(name):
    seen = 0
    for locale in LOCALES:
        world = make_world(f"{name}@{locale}")
        for kind in ("honest", "deceiver", "random"):
            for _, said, _, _ in play_scripted(world, persona(kind)(world, 3), 3):
                found = read_action(said)
                mark = list(_OLD_SPLIT.finditer(said))[-1]
                assert parse_action(said) == as_before(said) != ""
                assert (found.motive, found.action) == ((0, mark.start()), (mark.end(), len(said)))
                seen += 1
        for marker in MARKERS.values():
            for command in world.actions():
                assert parse_action(f"why . {marker} {command}") == parse_action(command) == as_before(command)
    assert seen > 100
