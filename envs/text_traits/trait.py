"""What a trait of text is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class TextTrait:
    """A trait that a text has or has not, by a rule."""

    name: str
    """Its name in configs and metrics."""
    definition: str
    """The rule in one sentence."""
    holds: Callable[[str], bool]
    """Has a text the trait? Never raises."""
    given: Callable[[str], str] | None = None
    """A text with the trait; None if no rule can give it, as a language."""
