"""Where a completion's motive ends and its action begins. A strategy object, because models differ."""

from __future__ import annotations

import re
from typing import Protocol

from envs.episode import Span


class Splitter(Protocol):
    def __call__(self, completion: str) -> tuple[Span, Span]:
        """(motive, action) as character ranges; either may be empty."""


class MarkerSplitter:
    """What stands before the last action marker is the motive, what stands after it the action.

    Without a marker the last line is the action, as the worlds read it.
    """

    _marker = re.compile(r"(?:action|الإجراء|الاجراء)\s*:", re.IGNORECASE)

    def __call__(self, completion: str) -> tuple[Span, Span]:
        marks = list(self._marker.finditer(completion))
        if marks:
            return Span(0, marks[-1].start()), Span(marks[-1].end(), len(completion))
        line = completion.rstrip().rfind("\n") + 1
        return Span(0, line), Span(line, len(completion))
