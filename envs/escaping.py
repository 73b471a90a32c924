"""Text of models, plug-ins and files, made safe to show: characters that act on their surroundings become visible.

`revealed` is the base of all forms: `on_terminal` here; HTML, plot labels, inline JSON, CSV and Markdown in
`launch.report`.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
from pathlib import Path

LINE, MESSAGE = 1000, 4000
"""Longest line and longest message that a terminal shows, in characters of the original."""
TAIL = 200
"""Characters of the end that a cut text keeps: messages end with the remedy."""

ACTING = re.compile(
    "["
    "\x00-\x08\x0b-\x1f\x7f-\x9f"  # control characters: escape sequences begin with ESC, or with one of C1
    "\xad\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"  # direction, and no width
    "\u2028\u2029"  # line ends for some programs
    "\ud800-\udfff"  # halves of a pair: no file can hold them
    "\U000e0000-\U000e0fff"  # tags, which no reader sees
    "]"
)
"""Left out: the joiners U+200C and U+200D, which Persian, Hindi and emoji are written with, tab and line feed."""


def revealed(text: str) -> str:
    """The text with a visible escape, e.g. `\\x1b` or `\\u202e`, for every character that acts on its surroundings."""
    return ACTING.sub(_escape, text)


def shortened(text: str, limit: int) -> str:
    """The beginning and the end of a text longer than `limit`, with the number of characters left out between them."""
    if len(text) <= limit:
        return text
    tail = min(TAIL, limit // 3)
    head = limit - tail
    return f"{text[:head]} [… {len(text) - limit} characters left out …] {text[len(text) - tail :]}"


def on_terminal(text: str, line: int = LINE, message: int | None = MESSAGE) -> str:
    """Text for a terminal or a log file, which cannot move the cursor, change colours or hide what stands before it.

    Lines and the whole are cut at `line` and `message` characters; None: the whole has any length.
    """
    lines = text.replace("\r\n", "\n").split("\n")
    cut = "\n".join(shortened(part, line) for part in lines)
    return revealed(cut if message is None else shortened(cut, message))


def on_one_line(text: str, limit: int = LINE) -> str:
    """The same where a line break could pass for a line of ours: breaks and tabs are shown as escapes, too."""
    return on_terminal(text, limit, limit).replace("\n", r"\n").replace("\t", r"\t")


def placeless(text: str) -> str:
    """A message for files that others read: the home directory as `~`, the working directory as `.`.

    The rest of a path stays, so that whoever ran the study still finds the file.
    """
    with contextlib.suppress(OSError, RuntimeError):
        for root, name in ((os.getcwd(), "."), (os.path.realpath(sys.prefix), "<python>"), (str(Path.home()), "~")):
            if root.count("/") > 1 or (root == str(Path.home()) and root != "/"):
                text = re.sub(rf"{re.escape(root)}(?![\w.-])", name, text)
    return text


def _escape(found: re.Match[str]) -> str:
    character = found.group()
    if character == "\r":
        return r"\r"
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
