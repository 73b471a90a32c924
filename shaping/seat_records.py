"""What the record of an episode says of its seat, in a game with several (`Episode.options`)."""

from __future__ import annotations

from envs.episode import Episode

SEAT = "seat"
"""Its seat."""
PLAYER = "player"
"""Who played it: `learner`, `unshaped`, a past policy, or a scripted one."""
PLAYERS = "players"
"""Seat -> who sat there."""
RETURNS = "returns"
"""Seat -> what it has earned in the game."""
GAME = "game"
"""The name of the game: all of its episodes have it."""

LEARNER = "learner"
"""The policy that is trained; one with an adapter of its own has its name behind it."""
UNSHAPED = "unshaped"
"""The policy that training started from: the model without any adapter."""


def seat_of(episode: Episode) -> str:
    """The seat; empty in a world with one."""
    return str(episode.options.get(SEAT, "")) if PLAYER in episode.options else ""


def player_of(episode: Episode) -> str:
    """Who played it; empty in a world with one seat."""
    return str(episode.options.get(PLAYER, ""))


def is_learner(player: str) -> bool:
    """Is it the policy that is trained?"""
    return player.partition(" ")[0] == LEARNER
