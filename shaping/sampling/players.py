"""Players: policies that one engine samples from at the same time, each with adapters and activation edits of its own.

In a world with several seats (`envs.seated`) a *player* is who sits there and samples: the learned policy of a seat,
the unshaped policy, or a past one. All of them are the same base with other adapters, so that one model serves them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from shaping.hooks import ActivationEdit
from shaping.sampling.embedded.request import Request
from shaping.sampling.engine import EngineError


@dataclass(frozen=True, slots=True)
class PlayerMode:
    """What is on while a player samples."""

    adapters: tuple[str, ...] = ()
    """Names of its adapters."""
    edits: tuple[ActivationEdit, ...] = ()
    """Its activation edits."""


Players = Mapping[str, PlayerMode]
"""Name -> mode of every player; empty: all sessions sample with whatever is on in the model."""


def check_player(player: str, known: Collection[str]) -> None:
    """Raise `EngineError` for a player that an engine with players does not serve."""
    if known and player not in known:
        raise EngineError(f"no player is called {player!r}; there are {', '.join(map(repr, known))}")


def by_player(requests: list[Request], players: Players) -> list[list[Request]]:
    """The requests of each player, whose adapters are on in one pass and off in another."""
    if not players:
        return [requests] if requests else []
    names = sorted({request.player for request in requests})
    return [[request for request in requests if request.player == name] for name in names]
