"""Players: policies that one engine samples from at the same time, each with adapters and activation edits of its own.

In a world with several seats (`envs.seated`) a *player* is who sits there and samples: the learned policy of a seat,
the unshaped policy, or a past one. All of them are the same base with other adapters, so that one model serves them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from shaping.hooks import ActivationEdit


@dataclass(frozen=True, slots=True)
class PlayerMode:
    """What is on while a player samples."""

    adapters: tuple[str, ...] = ()
    """Names of its adapters."""
    edits: tuple[ActivationEdit, ...] = ()
    """Its activation edits."""


Players = Mapping[str, PlayerMode]
"""Name -> mode of every player; empty: all sessions sample with whatever is on in the model."""
