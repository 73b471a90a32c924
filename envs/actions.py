"""The command in a completion: one parser, which worlds, action masks and splitters share.

Read is what follows the last closed thought (`<think>...</think>` and its variants) and precedes the first end of a
turn. There the command follows the last action marker; without a marker it is the last line. A tool call that no marker
follows is a command, too (`envs.tool_calls`).
"""

from __future__ import annotations

import re
import unicodedata
from itertools import pairwise
from typing import NamedTuple

from envs.episode import Span
from envs.tool_calls import bare_call, last_call

MARKERS = {"en": "ACTION:", "ar": "الإجراء:"}
"""Language -> the marker before a command."""
THOUGHT, THOUGHT_END = "<think>", "</think>"
"""Opens a thought, for texts whose prompt has opened it already; closes it."""

_TASHKEEL = re.compile("[\u064b-\u0652\u0640]")
_ALEF = str.maketrans({"أ": "ا", "إ": "ا", "آ": "ا"})
_NAMES = "think|thinking|thought|thoughts|reasoning|reason"
TAG = re.compile(rf"<(/?)(?:{_NAMES})>|\[(/?)(?:{_NAMES})\]|◁(/?)(?:{_NAMES})▷", re.IGNORECASE)
"""Opens or closes a thought."""
_TURN_END = re.compile(
    r"<(?:end_of_turn|start_of_turn|/s)>|<\|(?:im_end|im_start|eot_id|eom_id|start_header_id|end_of_text|endoftext|end|"
    r"user|assistant|END_OF_TURN_TOKEN)\|>|\[/?INST\]",
    re.IGNORECASE,
)
"""Ends a turn in the usual chat templates; what stands behind it belongs to a turn that the model has invented."""
_PAIRS = {"*": "*", "`": "`", '"': '"', "'": "'", "“": "”", "‘": "’", "«": "»", "„": "“"}
"""What commands are wrapped in: emphasis, code, quotes."""
WRAPPING = "".join({*_PAIRS, *_PAIRS.values()}) + "."
_HUGS = "*`\"'"
"""What a marker may be wrapped in."""
_FENCE = re.compile(r"\s*`{3,}\w*\s*")


def normalise(text: str) -> str:
    """Fold full-width and compatibility forms, Arabic vowel marks and alef variants, and Eastern Arabic digits."""
    if text.isascii():
        return text
    text = unicodedata.normalize("NFKC", text).translate(_ALEF)
    text = _TASHKEEL.sub("", text)
    return "".join(str(unicodedata.digit(c)) if c.isdigit() and not c.isascii() else c for c in text)


_WORDS = "|".join(dict.fromkeys([*(normalise(marker.rstrip(":")) for marker in MARKERS.values()), "command"]))
_MARKER = re.compile(rf"(?<![\w/-])(?:{_WORDS})([*`\"']*)\s*:", re.IGNORECASE)


class Reading(NamedTuple):
    """What is read in a completion."""

    motive: Span
    """What stands before the marker, or before the last line; everything if there is no command."""
    action: Span
    """The command without what it is wrapped in."""
    command: str
    """It, as worlds compare it: folded, lower-case, single-spaced; empty if there is none."""


def marks_action(text: str) -> bool:
    """Does a text hold an action marker, or the beginning of a tool call?"""
    return "<tool_call" in text.lower() or _MARKER.search(normalise(text)) is not None


def parse_action(text: str) -> str:
    """The command in a completion: the text after the last `ACTION:` marker, else the last non-empty line.

    Only what follows the last closed thought is read: in a thought that is cut off there is no command. Emphasis, code
    marks, quotes and a full stop around the command are left out; everything before it is free-form reasoning. Returns
    a normalised, single-spaced, lower-case string; it is empty if there is no command.
    """
    folded = normalise(text)
    found = _found(folded)
    return found.command if found else ""


def read_action(text: str) -> Reading:
    """The command of `parse_action`, and where it stands in `text`."""
    places = _Places(text)
    found = _found(places.folded)
    if found is None:
        return Reading(Span(0, len(text)), Span(len(text), len(text)), "")
    action = Span(*places.range(found.start, found.stop))
    return Reading(Span(0, min(places.range(found.before, found.before)[0], action.start)), action, found.command)


def command_text(text: str) -> str:
    """The command as it was written, case and lines kept: all after the last marker, else all that is read."""
    places = _Places(text)
    folded = places.folded
    if (part := _readable(folded)) is None:
        return ""
    start, stop = part
    if mark := _last(_MARKER, folded, start, stop):
        start, stop = _wrapped(folded, mark, stop)
    start, stop = places.range(*_unwrapped(folded, start, stop, "*`"))
    return text[start:stop].strip()


def read_range(text: str) -> tuple[int, int] | None:
    """The part of a text that can hold a command; None if it ends within a thought."""
    places = _Places(text)
    part = _readable(places.folded)
    return None if part is None else places.range(*part)


def thinking(text: str) -> bool:
    """Does a text end within a thought?"""
    last = _last(TAG, normalise(text))
    return last is not None and not any(last.groups())


def _last(pattern: re.Pattern[str], text: str, *part: int) -> re.Match[str] | None:
    """The last match in a part of a text."""
    found = None
    for match in pattern.finditer(text, *part):
        found = match
    return found


def _readable(folded: str) -> tuple[int, int] | None:
    """The part of a folded text that can hold a command; None if it ends within a thought."""
    if "<" not in folded and "[" not in folded and "◁" not in folded:
        return 0, len(folded)
    end = _TURN_END.search(folded)
    stop = end.start() if end else len(folded)
    start, thinks = 0, False
    for tag in TAG.finditer(folded, 0, stop):
        thinks = not any(tag.groups())
        if not thinks:
            start = tag.end()
    return None if thinks else (start, stop)


def continued(line: str) -> tuple[str, str] | None:
    """The last line of a text in short, for those who try what may follow: (text that is read alike, its command).

    The command still has everything around it that may belong to it, and a blank at its end. None if nothing that
    follows is read, whatever it is, short of the end of a thought.
    """
    folded = normalise(line)
    part = _readable(folded)
    if part is None or part[1] < len(folded):
        return None
    mark = _last(_MARKER, folded, *part)
    start = mark.end() if mark else part[0]
    command = " ".join(folded[start:].lower().split())
    blank = " " if command and folded[-1:].isspace() else ""
    if mark is None:
        return f"ACTION: {command}{blank}", command
    glue = " " if folded[start : start + 1].isspace() else ""
    return f"{_lead(folded, mark, part[0])}ACTION{mark.group(1)}:{glue}{command}{blank}", command


class _Found(NamedTuple):
    """A command in a folded text."""

    before: int
    """End of the motive."""
    start: int
    stop: int
    command: str


def _found(folded: str) -> _Found | None:
    """The command in a folded text; None if there is none to read."""
    if (part := _readable(folded)) is None:
        return None
    if "{" in folded and (called := _called(folded, part)):
        return called
    if (plain := _plainly(folded, part)) is None:
        return None
    before, start, stop = plain
    return _Found(before, start, stop, " ".join(folded[start:stop].lower().split()))


def _called(folded: str, part: tuple[int, int]) -> _Found | None:
    """The command of the last tool call, if no action marker follows it; None if there is none."""
    marks = list(_MARKER.finditer(folded, *part))
    call = last_call(folded, *part)
    if call and all(mark.start() < call.stop for mark in marks) and (command := _one_command(call.command)):
        return _Found(call.start, *call.inner, command)
    for mark in reversed(marks):
        call = bare_call(folded, *_wrapped(folded, mark, part[1]))
        if call and (command := _one_command(call.command)):
            return _Found(mark.start() - len(_lead(folded, mark, part[0])), *call.inner, command)
    return None


def _one_command(said: str) -> str:
    """The command of a call, as worlds compare it; empty if it holds more than one line, or a marker of its own."""
    line = f"ACTION: {said}"
    if len(line.splitlines()) > 1 or _MARKER.search(said) or (plain := _plainly(line, (0, len(line)))) is None:
        return ""
    return " ".join(line[plain[1] : plain[2]].lower().split())


def _plainly(folded: str, part: tuple[int, int]) -> tuple[int, int, int] | None:
    """(end of the motive, start and end of the command) without tool calls; None if there is none to read."""
    lines: list[tuple[int, int]] = []
    at = part[0]
    for line in folded[part[0] : part[1]].splitlines(keepends=True):
        text = line.rstrip()
        if text and not ("```" in text and _FENCE.fullmatch(text)):
            lines.append((at, at + len(line.splitlines()[0])))
        at += len(line)
    for start, stop in reversed(lines):
        if mark := _last(_MARKER, folded, start, stop):
            before = mark.start() - len(_lead(folded, mark, start))
            return before, *_unwrapped(folded, *_wrapped(folded, mark, stop))
    return (lines[-1][0], *_unwrapped(folded, *lines[-1])) if lines else None


def _lead(folded: str, mark: re.Match[str], start: int) -> str:
    """What the marker is wrapped in on its left, as in `**ACTION:** work 2`."""
    if folded[mark.start() - 1 : mark.start()] not in _HUGS:
        return ""
    line = folded[start : mark.start()]
    return line[len(line.rstrip(_HUGS)) :]


def _wrapped(folded: str, mark: re.Match[str], stop: int) -> tuple[int, int]:
    """What follows a marker up to `stop`, without the other half of what stands before the marker."""
    start, lead = mark.end(), _lead(folded, mark, 0)
    if not lead or mark.group(1):
        return start, stop
    close = lead[::-1]
    if folded.startswith(close, start, stop):
        return start + len(close), stop
    last = start + len(folded[start:stop].rstrip())
    for end in (last, last - 1):
        if folded[end:last] in ("", ".") and folded.endswith(close, start, end):
            return start, end - len(close)
    return start, stop


def _unwrapped(folded: str, start: int, stop: int, marks: str = "") -> tuple[int, int]:
    """A range without the emphasis, code marks, quotes and full stop around its text; else as it is, with its blanks.

    `marks`: only these, and no full stop.
    """
    while True:
        inner = folded[start:stop].strip()
        if len(inner) < 2 or (inner[0] not in _PAIRS and inner[-1] != "."):
            return start, stop
        first = start + len(folded[start:stop]) - len(folded[start:stop].lstrip())
        last = first + len(inner)
        close = _PAIRS.get(inner[0], "")
        content = inner[1:-1].strip(inner[0] + close)
        if close and inner[-1] == close and (not marks or close in marks) and close not in content and content:
            start, stop = first + 1, last - 1
        elif not marks and inner[-1] == "." and not inner[-2].isspace() and inner[-2] != ".":
            start, stop = first, last - 1
        else:
            return start, stop


class _Places:
    """A folded text, and where its characters stand in the text itself."""

    def __init__(self, text: str) -> None:
        self.folded = normalise(text)
        self._starts: list[int] | None = None
        if text.isascii():
            return
        cuts = [0, *(at for at in range(1, len(text)) if not _joins(text[at - 1], text[at])), len(text)]
        parts = [normalise(text[start:stop]) for start, stop in pairwise(cuts)]
        if "".join(parts) != self.folded:  # characters that join over more than two places
            cuts, parts = [0, len(text)], [self.folded]
        self._starts = [start for start, part in zip(cuts, parts, strict=False) for _ in part]
        self._stops = [stop for stop, part in zip(cuts[1:], parts, strict=True) for _ in part]
        self._length = len(text)

    def range(self, start: int, stop: int) -> tuple[int, int]:
        """A range of the folded text as a range of the text."""
        if self._starts is None:
            return start, stop
        first = self._starts[start] if start < len(self._starts) else self._length
        return first, self._stops[stop - 1] if stop > start else first


def _joins(left: str, right: str) -> bool:
    """Must two neighbours be folded together?"""
    if left.isascii() and right.isascii():
        return False
    if unicodedata.combining(right):
        return True
    both = unicodedata.normalize("NFKC", left + right)
    return both != unicodedata.normalize("NFKC", left) + unicodedata.normalize("NFKC", right)
