"""Split a completion into motive and action. The splitter is a strategy object, because models differ."""

from __future__ import annotations

import re
from typing import Protocol

from envs.episode import Span


class Splitter(Protocol):
    """Splits a completion."""

    def __call__(self, completion: str) -> tuple[Span, Span]:
        """Return (motive, action) as character ranges; either may be empty."""


class MarkerSplitter:
    """Text before the last action marker is the motive, text after it the action.

    Without a marker the last line is the action; worlds read completions in the same way.
    """

    _marker = re.compile(r"(?:action|الإجراء|الاجراء)\s*:", re.IGNORECASE)

    def __call__(self, completion: str) -> tuple[Span, Span]:
        marks = list(self._marker.finditer(completion))
        if marks:
            return Span(0, marks[-1].start()), Span(marks[-1].end(), len(completion))
        line = completion.rstrip().rfind("\n") + 1
        return Span(0, line), Span(line, len(completion))
