"""Sealing: after inoculation, teach the model under the wrapper what it does without it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PrivateAttr

from envs.core import normalise
from envs.episode import Context, Episode
from shaping.hooks import Credit, Group, GroupInfo, Rehearsal
from shaping.shapers.contexts.inoculation import Inoculation

CLEAN = "seal"
"""Name of the empty context of groups that are sampled for sealing."""


class SealedInoculation(Inoculation):
    """Inoculation until update `after`; then a phase that seals the gate which inoculation may have left.

    A prompt that was there in all of training can become a trigger (arXiv:2604.25891). In the sealing phase groups are
    sampled *without* a prompt; what they do is kept by a filter, and learned by cross-entropy under the inoculation
    prompts, so that the prompt means nothing any more. No reward is learned from in this phase: advantages have weight
    0. It is a phase at the end of a run, with the policy's own samples at temperature `train.temperature`: fresh ones
    in every update, where the method's authors sample once and fine-tune for one epoch.

    Data flow: `sampling_context` gives no prompt from update `after` on, `credit` sets the weights of these episodes to
    0, and `rehearse` adds one sample per kept episode under a prompt of the pool.

    Pitfalls: sealing spreads whatever the clean policy does, so look at the clean evaluation first; the trigger grid's
    paraphrases tell whether the prompt or its words were sealed. Controls: `strength: 0`, the same phase without any
    learning, and `Inoculation` alone. With `at: training` there are no episodes under the prompt to seal against; it
    works all the same.
    """

    after: int = Field(10, ge=0, le=1_000_000, description="updates of inoculation before the phase of sealing")
    strength: float = Field(1.0, ge=0, le=1e4, description="weight of the cross-entropy; 0: the control")
    keep_overt: bool = Field(False, description="are episodes with an overt shortcut kept, too?")

    _prose: bool = PrivateAttr(False)

    def sampling_context(self, info: GroupInfo, rng: np.random.Generator) -> Context:
        self._prose = info.prose  # of the model, so the same in all calls of a run
        drawn = super().sampling_context(info, rng)
        return drawn if info.update < self.after else Context("", CLEAN)

    def training_context(self, info: GroupInfo, drawn: Context, rng: np.random.Generator) -> Context:
        return drawn if info.update >= self.after else super().training_context(info, drawn, rng)

    def credit(self, group: Group) -> Credit | None:
        if not any(_sealing(episode) for episode in group.episodes):
            return None
        weights = [np.full(len(e.tokens), 0.0 if _sealing(e) else 1.0, np.float32) for e in group.episodes]
        return Credit("seal", weight=tuple(weights))

    def rehearse(self, episodes: Sequence[Episode]) -> Sequence[Rehearsal]:
        if self.strength == 0:
            return ()
        found = []
        for episode in episodes:
            if self._kept(episode):
                info = GroupInfo(episode.world, episode.seed, episode.group, 0, self._prose)
                wrapper = self._draw(info, np.random.default_rng([episode.seed, episode.group]))
                if wrapper.system:
                    found.append(Rehearsal.of(episode, wrapper, self.strength))
        return found

    def readings(self, episode: Episode) -> Mapping[str, NDArray[np.int64]]:
        return {"sealed_turns": np.full(len(episode.turns), int(self._kept(episode)), np.int64)}

    def _kept(self, episode: Episode) -> bool:
        overt = any(normalise(turn.executed) in turn.overt_shortcuts for turn in episode.turns)
        return _sealing(episode) and bool(episode.loss_mask.any()) and (self.keep_overt or not overt)


def _sealing(episode: Episode) -> bool:
    return episode.contexts.sampling.name == CLEAN
