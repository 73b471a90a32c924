"""Diversity of motives: an entropy bonus over what the members of a group state before they act."""

from __future__ import annotations

from collections import Counter
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from envs.core import normalise
from envs.episode import Episode
from envs.personas.persona import classify_motive
from shaping.controls import ControlKind
from shaping.hooks import Credit, Group
from shaping.intervention import Shaper
from shaping.shapers.motives.tie_breaking import bonus_credit, dealt, tie_breaks


class MotiveDiversity(Shaper):
    """Episodes whose stated motive is rare in their group are reinforced more: exploration of motives is kept alive.

    Data flow: stated motive of each member -> cluster -> surprisal -log p(cluster) within the group, whose mean is the
    entropy of the clusters -> bonus on all tokens of the episode. (Diversity of skills: Eysenbach et al.,
    arXiv:1802.06070; of what a group samples, rather than of single tokens.)

    An episode's cluster is the class of motive that most of its turns state (`by: class`), or the text of its first
    motive (`by: text`). By default the bonus only breaks ties (`tie_breaking`: it inverts no two returns); with
    `order_preserving: false` it is weight * (surprisal - entropy), which can. Pitfalls: unusual is not good, so use it
    to find motives, beside a credit that prefers some; by text, paraphrases count as diversity. Control: `placebo`
    deals the bonuses at random. `weight: 0` changes no bit.

    Seen in `methods` (clerk, 8 replicates, 95 %): entropy of tokens in nats, in training, beside unshaped: -0.02
    [-0.10, +0.07], where it should be above 0; 0.12 would be seen with a power of .8.
    """

    needs: ClassVar[tuple[ControlKind, ...]] = (ControlKind.PLACEBO, ControlKind.BASE)

    weight: float = Field(0.1, ge=0, le=1e6, description="largest bonus, in units of the advantage")
    by: Literal["class", "text"] = Field("class", description="what makes two motives the same")
    order_preserving: bool = Field(True, description="may it only break ties?")
    placebo: bool = Field(False, description="deal the bonuses among the members of the group at random")

    def credit(self, group: Group) -> Credit | None:
        clusters = [self._cluster(episode) for episode in group.episodes]
        share = Counter(clusters)
        surprisal = np.array([-np.log(share[cluster] / len(clusters)) for cluster in clusters], np.float64)
        if self.placebo:
            surprisal = dealt(group, surprisal)
        if self.order_preserving:
            return bonus_credit("motive_diversity", group, tie_breaks(group, surprisal, self.weight))
        bonus = self.weight * (surprisal - surprisal.mean())
        return bonus_credit("motive_diversity", group, bonus.astype(np.float32))

    def _cluster(self, episode: Episode) -> str:
        texts = [turn.motive_text for turn in episode.turns]
        if not texts:
            return ""
        if self.by == "text":
            return " ".join(normalise(texts[0]).lower().split())
        stated = Counter(map(classify_motive, texts))
        return max(sorted(stated), key=stated.__getitem__)
