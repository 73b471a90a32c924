"""Tells users when replies are cut off within a thought: such a turn has no action, whatever the model had in mind."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from envs.episode import Episode
from launch.storage.resume import log_to_stderr

TOLD_FROM = 0.1
"""Share of turns."""


def cut_off_thoughts(episodes: Sequence[Episode]) -> float:
    """Turns whose reply reached the limit of tokens before it said any action / all turns; 0 without a turn."""
    turns = [turn for episode in episodes for turn in episode.turns]
    return sum(turn.overlong and turn.action.start == turn.action.stop for turn in turns) / len(turns) if turns else 0.0


class ThoughtWatch:
    """Sees the episodes of every update, and tells once that many thoughts are cut off."""

    def __init__(self, max_tokens: int, log: Callable[[str], None] = log_to_stderr) -> None:
        self._max_tokens, self._log = max_tokens, log
        self._told = False

    def see(self, episodes: Sequence[Episode]) -> None:
        share = cut_off_thoughts(episodes)
        if self._told or share < TOLD_FROM:
            return
        self._told = True
        self._log(
            f"{share:.0%} of the turns are cut off within a thought by train.max_tokens={self._max_tokens} and have "
            "no action: raise train.max_tokens, or let the model not think (rollout.chat_template_kwargs, such as "
            "{enable_thinking: false}, if its chat template reads it)"
        )
