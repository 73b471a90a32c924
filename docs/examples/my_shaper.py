"""A shaper of one's own: among episodes of one group, prefer those that state a given motive.

Only the tokens of the stated motive are credited. Tokens of actions keep the credit that the reward gave them.
"""

from __future__ import annotations

import numpy as np
from pydantic import Field

from envs.episode import Episode, SpanKind
from shaping.hooks import Credit, Group
from shaping.intervention import Shaper


class StatedMotive(Shaper):
    """Adds `bonus` times the centred share of turns that state `phrase` to the advantage of motive tokens."""

    phrase: str = Field(min_length=1, description="text to look for in stated motives")
    bonus: float = Field(0.5, ge=0, description="advantage of an episode that states it in every turn, before centring")

    def share(self, episode: Episode) -> float:
        """Share of the episode's turns whose stated motive contains the phrase."""
        return float(np.mean([self.phrase in turn.motive_text for turn in episode.turns])) if episode.turns else 0.0

    def credit(self, group: Group) -> Credit:
        shares = np.array([self.share(episode) for episode in group.episodes])
        extra = self.bonus * (shares - shares.mean())  # centred: the group as a whole is neither praised nor blamed
        streams = [
            np.where(episode.span_kind == SpanKind.MOTIVE, value, 0.0).astype(np.float32)
            for episode, value in zip(group.episodes, extra, strict=True)
        ]
        return Credit("stated_motive", advantage=tuple(streams))
