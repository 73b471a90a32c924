"""The texts of a vocabulary's tokens, sorted so that those which could complete a command are found at once."""

from __future__ import annotations

import unicodedata
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from functools import lru_cache

from envs.actions import WRAPPING, normalise

PARTIAL = "\ufffd"
"""Replacement character: decoding shows it for bytes that are no whole character."""
_AROUND = f"{WRAPPING} "
_CALL_ENDS = ("}", "]")


class Pieces:
    """The pieces of a vocabulary: the text that each token adds.

    All searches ignore case, kinds of blanks, vowel marks and compatibility forms, as worlds do.

    Args:
        texts: token id -> text; empty for tokens that add none.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        self._texts = list(texts)
        folded = [(i, normalise(text).lower()) for i, text in enumerate(texts) if text]
        self._plain = {i: " ".join(text.split()) for i, text in folded}
        order = sorted((text.lstrip(_AROUND), i) for i, text in self._plain.items())
        self._starts, self._by_start = [text for text, _ in order], [i for _, i in order]
        self.all = tuple(self._plain)
        """Ids of the tokens that add text."""
        self.partial = tuple(i for i, text in enumerate(texts) if PARTIAL in text)
        """Ids of the tokens that hold parts of characters."""
        self.joining = tuple(i for i in self._plain if _joins(texts[i]))
        """Ids of the pieces that change the character before them."""
        self._closing = {i: t for i, t in folded if ">" in t or t.rstrip("` \t\r\n").endswith(_CALL_ENDS)}
        self.holding = lru_cache(1000)(self._holding)

    def __getitem__(self, token: int) -> str:
        return self._texts[token]

    @property
    def closing(self) -> Sequence[int]:
        """Ids of the pieces that can end a tool call."""
        return tuple(self._closing)

    def going_on(self, rest: str) -> Sequence[int]:
        """Ids of the pieces that begin with `rest`, after quotes, emphasis and blanks."""
        return self._by_start[bisect_left(self._starts, rest) : bisect_right(self._starts, f"{rest}\U0010ffff")]

    def _holding(self, command: str) -> Sequence[int]:
        """Ids of the pieces in which the whole command stands."""
        words = " ".join(command.split())
        return tuple(i for i, text in self._plain.items() if words in text)

    def closing_with(self, words: Sequence[str], text: str) -> Sequence[int]:
        """Ids of the pieces that can end a tool call and complete `words` in it, as they go on after `text`.

        A piece with a backslash may spell characters by their numbers, and so any word.
        """
        if not words:
            return self.closing
        tail = text[-max(map(len, words)) :]
        return [i for i, piece in self._closing.items() if "\\" in piece or all(word in tail + piece for word in words)]


def _joins(piece: str) -> bool:
    first = piece[0]
    jamo = "\u1160" <= first <= "\u11ff"  # vowels and ends of Hangul syllables
    return jamo or any(unicodedata.combining(c) for c in piece)
