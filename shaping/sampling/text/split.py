"""Split a completion into motive and action, and say what the world receives. Models differ, so studies choose.

`rollout.splitter` of a study names one of `SPLITTERS`, or `package.module:Class` for a subclass of `Splitter`.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from typing import Final

from envs.actions import THOUGHT, normalise, parse_action, read_action, read_range
from envs.episode import Span
from envs.tool_calls import command_of
from shaping.hooks import InterventionError


class SplitError(InterventionError):
    """A splitter returned no ranges of the completion."""


class Splitter(ABC):
    """Splits completions. A subclass says where motive and action are; the world then receives the action's text."""

    maskable: bool = False
    """Do action masks read completions as it does? They read what follows an action marker, or the last line."""
    opened: str = ""
    """Text that completions are read behind: a thought that the prompt has opened."""

    @abstractmethod
    def __call__(self, completion: str) -> tuple[Span, Span]:
        """Return (motive, action) as character ranges; either may be empty."""

    def sent(self, completion: str) -> str:
        """What the world receives. It reads the command in it, and executes that."""
        _, action = self.ranges(completion)
        said = completion[action.start : action.stop].strip()
        return f"ACTION: {said}" if said else ""

    def ranges(self, completion: str) -> tuple[Span, Span]:
        """What `__call__` returns, checked. Raises `SplitError` naming the class."""
        try:
            motive, action = (Span(int(start), int(stop)) for start, stop in self(completion))
        except (TypeError, ValueError):
            raise SplitError(f"{self._named} returned no two ranges; return (motive, action), two Spans") from None
        for span in (motive, action):
            if not 0 <= span.start <= span.stop <= len(completion):
                raise SplitError(f"{self._named} returned {span}, but the completion has {len(completion)} characters")
        return motive, action

    @property
    def _named(self) -> str:
        return f"splitter {type(self).__module__}:{type(self).__qualname__}"


class MarkerSplitter(Splitter):
    """Text before the last action marker is the motive, text after it the action (`envs.actions`).

    Without a marker the last line is the action; a tool call that no marker follows is one, too. Nothing in a thought
    is one. Worlds read completions in the same way.

    Args:
        opened: the thought tag that the prompt has opened, if it does so.
    """

    maskable = True

    def __init__(self, opened: str = "") -> None:
        self.opened = opened

    def __call__(self, completion: str) -> tuple[Span, Span]:
        shift = len(self.opened)
        motive, action, _ = read_action(self.opened + completion)
        return (
            Span(0, max(motive.stop - shift, 0)),
            Span(max(action.start - shift, 0), max(action.stop - shift, 0)),
        )

    def sent(self, completion: str) -> str:
        return self.opened + completion


class ThinkTagsSplitter(MarkerSplitter):
    """Like `MarkerSplitter`, but only what follows a closed thought is read: without `</think>` there is no action."""

    def __init__(self) -> None:
        super().__init__(THOUGHT)


class ToolCallSplitter(Splitter):
    """The last tool call between tags is the action, and nothing else is.

    An example: `<tool_call>{"name": "work", "arguments": {"n": 2}}</tool_call>`.
    Its command is the name and the values of the arguments in their order, here `work 2`. A call in a thought, a call
    that is cut off and a call that is not JSON are no action. All before the call is the motive.

    Args:
        opened: the thought tag that the prompt has opened, if it does so.
    """

    _call = re.compile(r"<tool_call>(.*?)</tool_call>", re.DOTALL | re.IGNORECASE)

    def __init__(self, opened: str = "") -> None:
        self.opened = opened

    def __call__(self, completion: str) -> tuple[Span, Span]:
        found = self._last(completion)
        if found is None:
            return Span(0, len(completion)), Span(len(completion), len(completion))
        return Span(0, found.start()), Span(found.start(1), found.end(1))

    def sent(self, completion: str) -> str:
        found = self._last(completion)
        command = _command(found[1]) if found else ""
        return f"ACTION: {command}" if command else ""

    def _last(self, completion: str) -> re.Match[str] | None:
        """The last call outside of thoughts."""
        part = read_range(self.opened + completion)
        if part is None:
            return None
        start, stop = (max(at - len(self.opened), 0) for at in part)
        calls = list(self._call.finditer(completion, start, stop))
        return calls[-1] if calls else None


SPLITTERS: Final[dict[str, type[Splitter]]] = {
    "marker": MarkerSplitter,
    "think_tags": ThinkTagsSplitter,
    "tool_call": ToolCallSplitter,
}
"""Name in configs -> splitter."""


def behind(splitter: Splitter, opened: str) -> Splitter:
    """The splitter for completions that begin within a thought, because the chat template opens it (`opened`)."""
    if opened and isinstance(splitter, (MarkerSplitter, ToolCallSplitter)) and not splitter.opened:
        return type(splitter)(opened)
    return splitter


def _command(text: str) -> str:
    """The command of a tool call; empty if it is none."""
    said = command_of(text)
    # one line, and no marker of its own: what is executed is this call
    same = parse_action(f"ACTION: {said}").split()[:1] == normalise(said).lower().split()[:1]
    return said if same and len(said.splitlines()) == 1 else ""
