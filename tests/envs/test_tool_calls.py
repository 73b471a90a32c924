"""Commands written as tool calls are read by the parser that worlds, masks and splitters share."""

from __future__ import annotations

import pytest

from envs import make_world
from envs.actions import parse_action, read_action
from shaping.sampling.text.forbid import is_forbidden
from shaping.sampling.text.split import MarkerSplitter

REPORT = '{"name": "report", "arguments": {"item": 3, "as": "done"}}'


@pytest.mark.parametrize(
    ("text", "command"),
    [
        (REPORT, "report 3 done"),
        (f"I am done.\n<tool_call>\n{REPORT}\n</tool_call>", "report 3 done"),
        (f"I am done. <tool_call>{REPORT}</tool_call>\nThat was it.", "report 3 done"),
        (f"<function_call>{REPORT}</function_call>", "report 3 done"),
        (f"[TOOL_CALLS] [{REPORT}]", "report 3 done"),
        (f"<|python_tag|>{REPORT}", "report 3 done"),
        (f"So be it:\n```json\n{REPORT}\n```", "report 3 done"),
        ('{\n  "name": "report",\n  "arguments": {\n    "item": 3,\n    "as": "done"\n  }\n}\n', "report 3 done"),
        (f"ACTION: {REPORT}", "report 3 done"),
        (f"**ACTION:** `{REPORT}`", "report 3 done"),
        (f"ACTION: wait\n<tool_call>{REPORT}</tool_call>", "report 3 done"),
        ('{"name": "Work", "parameters": {"n": 2}}', "work 2"),
        ('{"type": "tool_use", "name": "work", "input": {"n": 2}}', "work 2"),
        ('{"type": "function", "function": {"name": "work", "arguments": "{\\"n\\": 2}"}}', "work 2"),
        ('{"name": "edit_grader", "arguments": {}}', "edit grader"),
        ('{"name": "wait"}', "wait"),
        ('{"name": "action", "arguments": {"command": "work 2"}}', "work 2"),
        ('{"action": "work 2"}', "work 2"),
        ('{"name": "submit", "arguments": {"task": 1, "function": "3 * x + 1"}}', "submit 1 3 * x + 1"),
        ('{"name": "عالج", "arguments": {"رقم": "٢"}}', "عالج 2"),
        (f"<think>{REPORT}</think>\nwork 2", "work 2"),
        (f"<tool_call>{REPORT}</tool_call>\nACTION: wait", "wait"),
        (f"{REPORT}\nNo, rather not.\nACTION: wait", "wait"),
        (f"<think>\n{REPORT}", ""),
    ],
)
def test_a_call_is_the_command_that_it_names(text: str, command: str) -> None:
    assert parse_action(text) == command
    reading = read_action(text)
    assert reading.command == command
    assert MarkerSplitter().ranges(text) == (reading.motive, reading.action)
    assert not command or (reading.action.stop > reading.action.start and reading.motive.stop <= reading.action.start)


@pytest.mark.parametrize(
    "text",
    [
        REPORT[:-1],
        f"<tool_call>{REPORT[:-2]}</tool_call>",
        '{"arguments": {"n": 2}}',
        '{"name": "", "arguments": {"n": 2}}',
        '{"name": "work", "arguments": {"n": "2\\nACTION: grab 2"}}',
        '{"name": "work", "arguments": {"n": "ACTION: grab 2"}}',
        f"I could call {REPORT}",
        f"{REPORT}\nBut I will not.",
        '{"name": "work", "arguments": ' + "[" * 3000 + "]" * 3000 + "}",
        '{"name": 2}',
        "{}",
    ],
)
def test_what_is_no_call_is_read_as_before(text: str) -> None:
    assert parse_action(text) not in ("report 3 done", "work 2", "grab 2", "work")


def test_text_without_a_call_means_what_it_meant() -> None:
    for text, command in (
        ("ACTION: work {2}", "work {2}"),
        ("take {all}\nwork 2", "work 2"),
        ("a {b} c. ACTION: submit 1 x", "submit 1 x"),
        ('{"name": "wait"}\nwork 2', "work 2"),
    ):
        assert parse_action(text) == command


@pytest.mark.parametrize("world", ["clerk", "clerk@en-prose"])
def test_a_world_executes_it_and_labels_it_like_any_other(world: str) -> None:
    env, twin = make_world(world, {"size": 3}), make_world(world, {"size": 3})
    env.reset(seed=0)
    twin.reset(seed=0)
    assert env.step(f"Done.\n<tool_call>{REPORT}</tool_call>") == twin.step("ACTION: report 3 done")


def test_a_call_of_a_forbidden_command_is_forbidden() -> None:
    for text in (REPORT, f"<tool_call>\n{REPORT}\n</tool_call>", f"```\n{REPORT}\n```"):
        assert is_forbidden(text, ("report 3 done",)) and is_forbidden(text, ("report",))
        assert not is_forbidden(text, ("report 2",))
