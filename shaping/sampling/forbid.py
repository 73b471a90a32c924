"""Action masks on text: which next tokens would complete a forbidden command, however the text is tokenised.

Masking only the usual tokenisation of a command would leave others open, and RL finds them. So every token of the
vocabulary is tried against the text so far. Masking follows Huang and Ontanon (arXiv:2006.14171): a masked token has
probability zero in sampling and in the learner alike.
"""

from __future__ import annotations

from collections.abc import Sequence

from envs.core import parse_action
from shaping.sampling.render import Renderer

_PARTIAL = "\ufffd"
"""How decoding shows bytes that are no whole character."""


def is_forbidden(text: str, commands: tuple[str, ...]) -> bool:
    """Would a world execute one of `commands` (or a longer form of it, word by word) on reading `text`?"""
    words = parse_action(text).split()
    return any(words[: len(parts)] == parts for parts in (command.split() for command in commands) if parts)


class CommandMask:
    """Token ids that may not follow a partial completion; cached by the completion's last line."""

    def __init__(self, renderer: Renderer, vocabulary: int) -> None:
        self._renderer = renderer
        self._pieces = [renderer.piece(i) for i in range(vocabulary)]
        self._piece_letters = [_letters(piece) if piece.isascii() else None for piece in self._pieces]
        self._partial = [i for i, piece in enumerate(self._pieces) if _PARTIAL in piece]
        self._cache: dict[tuple[str, tuple[str, ...]], tuple[int, ...]] = {}

    def banned(self, sampled: Sequence[int], commands: tuple[str, ...]) -> tuple[int, ...]:
        """Ids that, appended to the `sampled` ones, make the text a forbidden command."""
        text = self._renderer.text(sampled)
        usual = self._banned(text.rsplit("\n", 1)[-1], commands)
        if not text.endswith(_PARTIAL):
            return usual
        # the last character is under way: only decoding the bytes together shows what a further one makes of it
        completed = {i for i in self._partial if is_forbidden(self._renderer.text([*sampled, i]), commands)}
        return tuple(sorted(completed.union(usual)))

    def _banned(self, line: str, commands: tuple[str, ...]) -> tuple[int, ...]:
        key = (line, commands)
        if key not in self._cache:
            if len(self._cache) > 20_000:
                self._cache.clear()
            letters = _letters(line) if line.isascii() else None
            parts = [part for part in map(_letters, commands) if part]
            self._cache[key] = tuple(
                i
                for i, (piece, own) in enumerate(zip(self._pieces, self._piece_letters, strict=True))
                # parsing is slow: first a look whether the letters of a command are there at all
                if piece
                and (letters is None or own is None or any(part in letters + own for part in parts))
                and is_forbidden(line + piece, commands)
            )
        return self._cache[key]


def _letters(text: str) -> str:
    """ASCII text without blanks and case: a world cannot read a command whose letters are not in it, in a row."""
    return "".join(text.lower().split())
