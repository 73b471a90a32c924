"""Settings of truncated sampling; importing them loads no torch."""

from __future__ import annotations

from typing import NamedTuple

MOST_KEPT = 1024
"""Largest `top_k`, so that the tokens kept can be recorded for every token sampled."""


class Truncation(NamedTuple):
    """Which tokens are kept, after temperature and masks: `min_p` is asked first, then `top_k`, then `top_p`."""

    top_k: int = 0
    """The likeliest tokens, this many; 0: all."""
    top_p: float = 1.0
    """The likeliest tokens that together have this probability, among those that `top_k` keeps."""
    min_p: float = 0.0
    """Tokens with at least this share of the likeliest one's probability."""

    @property
    def on(self) -> bool:
        """Does it drop any token?"""
        return self != Truncation()
