"""Action masks on text: which next tokens would complete a forbidden command, however the text is tokenised.

Masking only the usual tokenisation of a command would leave others open, and RL finds them. So every token of the
vocabulary is tried against the text so far. Masking follows Huang and Ontanon (arXiv:2006.14171): a masked token has
probability zero in sampling and in the learner alike.
"""

from __future__ import annotations

from envs.core import parse_action
from shaping.sampling.render import Renderer


def is_forbidden(text: str, commands: tuple[str, ...]) -> bool:
    """Would a world execute one of `commands` (or a longer form of it, word by word) on reading `text`?"""
    words = parse_action(text).split()
    return any(words[: len(parts)] == parts for parts in (command.split() for command in commands) if parts)


class CommandMask:
    """Token ids that may not follow a partial completion; cached by the completion's last line."""

    def __init__(self, renderer: Renderer, vocabulary: int) -> None:
        self._pieces = renderer.pieces(list(range(vocabulary)))
        self._cache: dict[tuple[str, tuple[str, ...]], tuple[int, ...]] = {}

    def banned(self, text: str, commands: tuple[str, ...]) -> tuple[int, ...]:
        """Ids whose text, appended to `text`, makes it a forbidden command."""
        line = text.rsplit("\n", 1)[-1]
        key = (line, commands)
        if key not in self._cache:
            if len(self._cache) > 20_000:
                self._cache.clear()
            self._cache[key] = tuple(
                i for i, piece in enumerate(self._pieces) if piece and is_forbidden(line + piece, commands)
            )
        return self._cache[key]
