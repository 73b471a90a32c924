"""Action masks on text: which next tokens would complete a forbidden command, however the text is tokenised.

Masking only the usual tokenisation of a command would leave others open, and RL finds them. So every token of the
vocabulary is tried against the text so far. Masking follows Huang and Ontanon (arXiv:2006.14171): a masked token has
probability zero in sampling and in the learner alike.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from envs.core import normalise, parse_action
from shaping.sampling.render import Renderer

_PARTIAL = "\ufffd"
"""How decoding shows bytes that are no whole character."""


def is_forbidden(text: str, commands: tuple[str, ...]) -> bool:
    """Would a world execute one of `commands` (or a longer form of it, word by word) on reading `text`?"""
    words = parse_action(text).split()
    return any(words[: len(parts)] == parts for parts in (command.split() for command in commands) if parts)


class CommandMask:
    """Token ids that may not follow a partial completion.

    Most pieces only lengthen the command that the text ends in, so their answers are shared by all texts that end in
    the same command. Pieces that can open a new line or an action marker are tried on the whole last line.
    """

    def __init__(self, renderer: Renderer, vocabulary: int) -> None:
        self._renderer = renderer
        pieces = [(i, renderer.piece(i)) for i in range(vocabulary)]
        self._turning = [(i, piece) for i, piece in pieces if _may_turn(piece)]
        self._plain = [(i, piece) for i, piece in pieces if piece and not _may_turn(piece)]
        self._partial = [i for i, piece in pieces if _PARTIAL in piece]
        self._cache: dict[tuple[str, tuple[str, ...]], tuple[int, ...]] = {}

    def banned(self, sampled: Sequence[int], commands: tuple[str, ...]) -> tuple[int, ...]:
        """Ids that, appended to the `sampled` ones, make the text a forbidden command."""
        text = self._renderer.text(sampled)
        line = text.rsplit("\n", 1)[-1]
        found = {*self._tried(self._turning, line, commands)}
        command = parse_action(line)
        if len(f"{normalise(line)}x".splitlines()) > 1:  # a line end other than "\n": rare, and every piece is tried
            found.update(self._tried(self._plain, line, commands))
        elif any(_may_become(command, forbidden) for forbidden in commands):
            blank = " " if line[-1:].isspace() else ""
            found.update(self._tried(self._plain, f"ACTION: {command}{blank}", commands))
        if text.endswith(_PARTIAL):
            # the last character is under way: only decoding the bytes together shows what a further one makes of it
            found.update(i for i in self._partial if is_forbidden(self._renderer.text([*sampled, i]), commands))
        return tuple(sorted(found))

    def _tried(self, pieces: list[tuple[int, str]], line: str, commands: tuple[str, ...]) -> tuple[int, ...]:
        key = (line, commands) if pieces is self._plain else (f"\n{line}", commands)
        if key not in self._cache:
            if len(self._cache) > 20_000:
                self._cache.clear()
            self._cache[key] = tuple(i for i, piece in pieces if is_forbidden(line + piece, commands))
        return self._cache[key]


def _may_turn(piece: str) -> bool:
    """Can a piece change which part of a text is the command: a line end, an action marker, a combining character?"""
    plain = normalise(piece)
    return ":" in plain or len(f"x{plain}x".splitlines()) > 1 or any(unicodedata.combining(c) for c in piece)


def _may_become(command: str, forbidden: str) -> bool:
    """Can lengthening `command` make it the forbidden one (or is it that already)?"""
    return forbidden.startswith(command) or f"{command} ".startswith(f"{forbidden} ")
