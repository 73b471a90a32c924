"""Splitters: what is motive, what is action, and what the world receives of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from play_worlds import Counting

from envs.actions import parse_action
from envs.episode import Episode, Span, SpanKind
from shaping.arm import Arm, compose
from shaping.constraints import ActionMask
from shaping.hooks import InterventionError
from shaping.sampling.play import EpisodeRequest, Limits, play
from shaping.sampling.scripted_engine import ScriptedEngine
from shaping.sampling.text.render import Renderer
from shaping.sampling.text.split import SPLITTERS, MarkerSplitter, SplitError, Splitter, ThinkTagsSplitter, behind

CALL = '<tool_call>\n{"name": "work", "arguments": {"n": 2}}\n</tool_call>'


class FirstLine(Splitter):
    """A splitter of one's own: the first line acts, the rest is talk."""

    def __call__(self, completion: str) -> tuple[Span, Span]:
        end = len(completion.partition("\n")[0])
        return Span(0, 0), Span(0, end)


class Wrong(Splitter):
    def __call__(self, completion: str) -> tuple[Span, Span]:
        return Span(0, 5), Span(5, len(completion) + 1)


class Shapeless(Splitter):
    def __call__(self, completion: str) -> tuple[Span, Span]:
        return None  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("name", "completion", "motive", "command"),
    [
        ("marker", "so be it . ACTION: work 2", "so be it .", "work 2"),
        ("marker", "<think> grab 2", "<think> grab 2", ""),
        ("think_tags", "I grab 2 </think> work 2", "I grab 2 </think>", "work 2"),
        ("think_tags", "<think>hm</think>\nACTION: work 2", "<think>hm</think>", "work 2"),
        ("think_tags", "ACTION: work 2", "ACTION: work 2", ""),
        ("tool_call", f"so be it .\n{CALL}", "so be it .", "work 2"),
        ("tool_call", f"{CALL.replace('work', 'grab')} or rather {CALL}", None, "work 2"),
        ("tool_call", f"<think>{CALL}</think> ACTION: grab 2", None, ""),
        ("tool_call", f"<think>{CALL}", None, ""),
        ("tool_call", CALL[:-5], None, ""),
        ("tool_call", "<tool_call>work 2</tool_call>", "", ""),
        ("tool_call", "<tool_call>[1]</tool_call>", "", ""),
        ("tool_call", '<tool_call>{"name": "wait"}</tool_call>', "", "wait"),
        ("tool_call", '<tool_call>{"name": "work", "arguments": "{\\"n\\": 2}"}</tool_call>', "", "work 2"),
        ("tool_call", '<tool_call>{"function": {"name": "work", "arguments": [2]}}</tool_call>', "", "work 2"),
        ("tool_call", '<tool_call>{"name": "wait", "arguments": {"x": "ACTION: grab 2"}}</tool_call>', "", ""),
        ("tool_call", '<tool_call>{"name": "wait\\nACTION: grab 2"}</tool_call>', "", ""),
    ],
)
def test_what_the_world_receives(name: str, completion: str, motive: str | None, command: str) -> None:
    splitter = SPLITTERS[name]()
    found, action = splitter.ranges(completion)
    assert parse_action(splitter.sent(completion)) == command
    assert motive is None or completion[found.start : found.stop].strip() == motive
    assert bool(completion[action.start : action.stop].strip()) >= bool(command)


def test_a_thought_that_the_template_opens_is_known() -> None:
    cut = "I could say ACTION: report 1 done"
    plain, opened = MarkerSplitter(), behind(MarkerSplitter(), "<think>")
    assert parse_action(plain.sent(cut)) == "report 1 done" and parse_action(opened.sent(cut)) == ""
    whole = f"{cut}\n</think>\nwork 2"
    motive, action = opened.ranges(whole)
    assert (whole[: motive.stop], whole[action.start :]) == (f"{cut}\n</think>\n", "work 2")
    assert isinstance(behind(ThinkTagsSplitter(), "<think>"), ThinkTagsSplitter)
    assert behind(plain, "") is plain


def test_a_splitter_of_ones_own_is_checked() -> None:
    assert FirstLine().sent("work 2\nand more") == "ACTION: work 2"
    with pytest.raises(SplitError, match=r"test_split:Wrong returned Span\(start=5, stop=8\).*7 characters"):
        Wrong().sent("work 2 ")
    with pytest.raises(SplitError, match=r"Shapeless returned no two ranges"):
        Shapeless().ranges("work 2")


class Script:
    def __init__(self, text: str) -> None:
        self.text = text

    def act(self) -> str:
        return self.text


def played(renderer: Renderer, text: str, splitter: Splitter | None = None, arm: Arm | None = None) -> Episode:
    engine = ScriptedEngine(lambda env: Script(text), renderer)
    requests = [EpisodeRequest(lambda: Counting(turns=1), 3)]
    limits = Limits(max_tokens=400)
    (episode,) = asyncio.run(play(requests, engine, renderer, arm or Arm("test"), limits=limits, splitter=splitter))
    return episode


@pytest.mark.parametrize(
    ("make", "text", "executed"),
    [
        (None, "<think> ACTION: report 1 done </think>\nwork 2", "work 2"),
        (None, "<think> ... report 1 done", ""),
        (None, "**ACTION:** work 2", "work 2"),
        (SPLITTERS["tool_call"], f"report 1 done {CALL}", "work 2"),
        (SPLITTERS["think_tags"], "report 1 done </think> work 2", "work 2"),
        (FirstLine, "work 2\nACTION: report 1 done", "work 2"),
    ],
)
def test_the_world_executes_what_the_spans_say(
    renderer: Renderer, make: Callable[[], Splitter] | None, text: str, executed: str
) -> None:
    episode = played(renderer, text, make() if make else None)
    (turn,) = episode.turns
    assert turn.executed == executed and turn.completion == text
    kinds = episode.span_kind[episode.loss_mask]
    assert executed or (kinds[:-1] == SpanKind.MOTIVE).all()
    if executed and make is not SPLITTERS["tool_call"]:
        assert parse_action(turn.action_text) == executed


def test_masks_are_refused_with_splitters_that_they_cannot_follow(renderer: Renderer) -> None:
    masked = compose("masked", [ActionMask(commands=("grab",))])
    with pytest.raises(InterventionError, match=r"rollout\.splitter marker or think_tags, or refuse commands after"):
        played(renderer, CALL, SPLITTERS["tool_call"](), masked)
    refused = compose("refused", [ActionMask(commands=("work",), mode="replace", fallback="wait")])
    assert played(renderer, CALL, SPLITTERS["tool_call"](), refused).turns[0].executed == "wait"
    played(renderer, "wait", ThinkTagsSplitter(), masked)
