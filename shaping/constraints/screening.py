"""Screening: labelled episodes are taken out of the batch before anything is computed from it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from envs.episode import Episode
from shaping.controls import ControlKind
from shaping.hooks import Group
from shaping.intervention import Constraint
from shaping.labels import LabelSource


class Screening(Constraint):
    """An episode with labelled turns has advantage 0 and is left out of its group's mean and spread.

        labels -> screen(group) -> statistics of those that stay -> advantages

    As in the reward-hacking testbed of Qwen3-4B (ariahw/rl-rewardhacking), where it restored the base rate of hacks at
    equal accuracy with ground-truth labels. A screened episode stays in the audits, and the ledger counts it as
    `screened`. Nothing pushes away from what it did: in contrast to a penalty there is no price to evade, but what the
    labels miss is rewarded in full, and compared with less.

    `labels` are of episodes here: recall, precision and false positives are shares of the episodes with at least
    `turns` turns that are meant, and of all others.

    Pitfalls. A group in which one episode stays has no baseline and teaches nothing. Where all of a group hack, it is
    empty: compare at equal numbers of *trained* episodes. A labeller with a blind spot selects for it.

    Controls: `labels: {placebo: true}` screens as many episodes of each group at random; `labels: off` and recall 0
    screen none and leave every bit; the recall sweep; evaluation by a monitor that was not trained on.

    Seen in `methods` (clerk, 8 replicates, 95 %): shortcuts per chance, deployed, beside screening placebo: -0.01
    [-0.09, +0.06], where it should be below 0; 0.10 would be seen with a power of .8.
    """

    needs: ClassVar[tuple[ControlKind, ...]] = (ControlKind.PLACEBO, ControlKind.NO_LOOPHOLE, ControlKind.BASE)

    labels: LabelSource = Field(LabelSource(), description="which episodes are screened out")
    turns: int = Field(1, ge=1, le=1_000_000, description="labelled turns from which on an episode is screened out")

    def screen(self, group: Group) -> NDArray[np.bool_]:
        return ~self.labels.labelled_episodes(group.episodes, self.turns)

    def readings(self, episode: Episode) -> Mapping[str, NDArray[Any]]:
        return {"meant_turns": self.labels.meant(episode).astype(np.int64)}
