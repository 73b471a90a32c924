"""What an intervention's `credit` holds, checked before anything is added up."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from envs.episode import Episode
from shaping.hooks import Credit, InterventionError


def miscounted(arrays: Any, members: int) -> str:
    """What is wrong with a stream that must hold an array for each member of a group, or none."""
    if not isinstance(arrays, (list, tuple, np.ndarray)):
        return f"is {arrays!r:.80}; it must hold an array for each of {members} episodes, or none"
    if len(arrays) not in (0, members):
        return f"holds {len(arrays)} arrays for a group of {members} episodes; return one per episode, or none"
    return ""


def token_stream(who: str, credit: Credit, kind: str, position: int, episode: Episode) -> NDArray[np.float32]:
    """One checked array [tokens] of a credit, zero outside the loss. A list is as good as an array.

    Raises: `InterventionError` that names the class, what came and what was wanted.
    """
    given = getattr(credit, kind)[position]
    try:
        values = np.asarray(given, np.float32)
    except (TypeError, ValueError):
        values = np.empty(0, np.float32)
    if values.shape != episode.tokens.shape or not np.isfinite(values).all():
        raise InterventionError(
            f"{who}.credit(), credit {credit.name!r}: {kind} must hold {len(episode.tokens)} finite numbers, one per "
            f"token, and holds {given!r:.80} for episode {position}"
        )
    return np.where(episode.loss_mask, values, 0.0).astype(np.float32)
