"""Selective inoculation: the prompt goes to the episodes that are labelled, and to no others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from envs.episode import Context, Episode
from shaping.hooks import Knob, RatioMode
from shaping.labels import LabelSource
from shaping.shapers.contexts.inoculation import Inoculation


class SelectiveInoculation(Inoculation):
    """Only labelled episodes are learned under the prompt, so that other traits are not gated by it.

    Data flow: a group draws a prompt (as `Inoculation` does, with `kind`, `pool`, `radius`) -> its episodes are
    sampled, with `at: training` without it, with `at: both` under it -> `labels` mark turns -> episodes with at least
    `turns` marked turns are learned under the prompt (c_t = I), all others under none (c_t = empty) -> deployment has
    none. The form for fine-tuning keeps good traits that are in the same data (selective inoculation of
    arXiv:2510.04340's setting). Baselines stay those of the group: all of its episodes were sampled under one context.

    Old log-probs are recomputed under each episode's own c_t. Pitfalls: of episodes sampled
    without the prompt the prompt explains nothing unless it names what they do; labels that read the world's own list
    count as oracle. Controls: `labels: {placebo: true}` gives the prompt to as many other episodes, `labels: off` to
    none, `kind: irrelevant` a prompt of other content, and `Inoculation` gives it to all.

    Seen in `methods` (clerk, 8 replicates, 95 %): shortcuts per chance, deployed, beside unshaped: -0.05 [-0.13,
    +0.03], where it should be below 0; 0.11 would be seen with a power of .8.
    """

    owns: ClassVar[frozenset[Knob]] = Inoculation.owns | {Knob.EPISODE_CONTEXT}

    labels: LabelSource = Field(LabelSource(), description="turns that mark an episode for the prompt")
    turns: int = Field(1, ge=1, le=10_000, description="labelled turns from which on an episode gets the prompt")
    at: Literal["both", "training"] = Field("training", description="phases in which a labelled episode has the prompt")
    ratio: Literal["recomputed", "none"] | None = Field(None, description="None: recomputed")

    def episode_context(self, episode: Episode) -> Context | None:
        return None if self._chosen(episode) else Context()

    def ratio_mode(self) -> RatioMode:
        return self.ratio or "recomputed"

    def readings(self, episode: Episode) -> Mapping[str, NDArray[np.int64]]:
        return {"inoculated_turns": np.full(len(episode.turns), self._chosen(episode), np.int64)}

    def _chosen(self, episode: Episode) -> bool:
        return int(self.labels.labelled(episode).sum()) >= self.turns
