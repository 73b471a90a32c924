"""Credit for stating a motive: on the tokens of the motive, not on those of the action."""

from __future__ import annotations

import numpy as np
from pydantic import Field

from envs.episode import Episode, SpanKind
from shaping.hooks import Credit, Group
from shaping.intervention import Shaper


class StatedMotive(Shaper):
    """Adds `bonus` times the centred share of turns that state `phrase` to the advantage of motive tokens."""

    # Fields are what a study may write beside `use`: phrase: honestly, bonus: 0.5. pydantic checks them.
    phrase: str = Field("honestly", min_length=1, description="text to look for in stated motives")
    bonus: float = Field(0.5, ge=0, description="advantage of an episode that states it in every turn, before centring")

    def share(self, episode: Episode) -> float:
        """Share of the episode's turns whose stated motive contains the phrase."""
        return float(np.mean([self.phrase in turn.motive_text for turn in episode.turns])) if episode.turns else 0.0

    # Methods are hooks (docs/plugins.md lists all): the loop asks this one once per group, before it learns.
    def credit(self, group: Group) -> Credit:
        shares = np.array([self.share(episode) for episode in group.episodes])
        extra = self.bonus * (shares - shares.mean())  # centred: the group as a whole is neither praised nor blamed
        streams = [
            np.where(episode.span_kind == SpanKind.MOTIVE, value, 0.0).astype(np.float32)  # [tokens]
            for episode, value in zip(group.episodes, extra, strict=True)
        ]
        return Credit("stated_motive", advantage=tuple(streams))
