"""Bias-augmented consistency training: say under a wrapper what is said without it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PrivateAttr, field_validator

from envs.core import normalise
from envs.episode import Context, Episode
from shaping.controls import ControlKind
from shaping.hooks import Rehearsal, UpdateReport
from shaping.intervention import Shaper
from shaping.prompts.pools import DIALECT, language_of, texts


class BiasConsistency(Shaper):
    """Cross-entropy of clean answers under a wrapper (BCT: Chua et al. 2024; Irpan et al., arXiv:2510.27062).

    loss = weight * mean over tokens of -log p(y | wrapper, x), with y what the policy itself said to x without a
    system prompt. It is added to the policy loss and divided by its own number of tokens; several of these in one arm,
    and imitation by credit, share that number, so that their weights are shares of one mean.

    `targets`: `current`, the update's own episodes, so y is of the policy that sampled them; `start`, the episodes of
    the first update, kept for the whole run; `stale`, those of the last multiple of `every` updates. The kept ones are
    at most `pairs` and are a part of the state in checkpoints. Stale targets fail in two ways: an old idea of what is
    right, and a weaker author.

    Data flow: `rehearse` makes one more sample per clean episode, under a wrapper that is drawn by the episode's seed;
    no episode, reward or advantage changes. Only episodes without a system prompt are clean: an arm that inoculates all
    groups has none. `keep: no_overt` leaves out episodes with an overt shortcut, a filter by public behaviour.

    Pitfalls: a flaw of the clean behaviour spreads to the wrapper; a filter changes which tasks are rehearsed; wrappers
    of the evaluation must not be these. Controls: `wrapper: [""]`, which is imitation of its own answers without any
    wrapper, and the pool `irrelevant`.

    Seen in `methods` (clerk, 8 replicates, 95 %): their cross-entropy, last updates less first ones, beside 0: +0.05
    [-0.04, +0.13], where it should be below 0; 0.11 would be seen with a power of .8.
    """

    needs: ClassVar[tuple[ControlKind, ...]] = (ControlKind.RANDOM_REWARD, ControlKind.BASE)

    wrapper: str | tuple[str, ...] = Field("permissive", description="a pool of prompts, a prompt, or several")
    weight: float = Field(1.0, ge=0, le=1e4, description="of the cross-entropy, beside the policy loss; 0: none")
    targets: Literal["current", "start", "stale"] = Field("current", description="whose answers are repeated")
    every: int = Field(10, ge=1, le=1_000_000, description="updates between new targets, of `stale`")
    pairs: int = Field(32, ge=1, le=4096, description="answers that are kept, of `start` and `stale`")
    keep: Literal["all", "no_overt"] = Field("all", description="clean episodes that are used")
    seed: int = Field(0, ge=0, le=2**32 - 1, description="seed of the wrappers")
    prose: bool = Field(False, description="does the model read prose? Pools are then those in natural language")

    _kept: list[tuple[str, list[int], list[bool], str, int]] = PrivateAttr(default_factory=list)

    @field_validator("wrapper")
    @classmethod
    def _usable(cls, value: str | tuple[str, ...]) -> str | tuple[str, ...]:
        if value == ("",):
            return value
        if not texts(value):
            raise ValueError("no wrapper: give a pool, a prompt or several; [''] is the control without one")
        return value

    def rehearse(self, episodes: Sequence[Episode]) -> Sequence[Rehearsal]:
        if self.weight == 0:
            return ()
        if self.targets == "current":
            return [self._of(e, e.world, e.seed) for e in episodes if self._clean(e)]
        return [
            Rehearsal(observation, np.array(tokens, np.int32), np.array(mask), self._drawn(world, seed), self.weight)
            for observation, tokens, mask, world, seed in self._kept
        ]

    def _of(self, episode: Episode, world: str, seed: int) -> Rehearsal:
        return Rehearsal.of(episode, self._drawn(world, seed), self.weight)

    def _drawn(self, world: str, seed: int) -> Context:
        """The wrapper of an episode: the same for a seed of a world, whoever asks."""
        language = language_of(world, self.prose) if isinstance(self.wrapper, str) else DIALECT
        prompts = self.wrapper if self.wrapper == ("",) else texts(self.wrapper, language)
        key = hashlib.blake2b(f"{self.seed}|{world}|{seed}".encode(), digest_size=8).digest()
        return Context(prompts[int.from_bytes(key) % len(prompts)], "wrapper")

    def _clean(self, episode: Episode) -> bool:
        if episode.contexts.sampling.system or not episode.loss_mask.any():
            return False
        overt = any(normalise(turn.executed) in turn.overt_shortcuts for turn in episode.turns)
        return self.keep == "all" or not overt

    def readings(self, episode: Episode) -> Mapping[str, NDArray[np.int64]]:
        used = self.weight > 0 and self.targets == "current" and self._clean(episode)
        return {"rehearsed_turns": np.full(len(episode.turns), int(used), np.int64)}

    def after_update(self, report: UpdateReport) -> None:
        """Keep the answers that later updates repeat."""
        due = {"current": False, "start": report.update == 0, "stale": report.update % self.every == 0}
        if not due[self.targets]:
            return
        found = [e for group in report.groups for e in group.episodes if self._clean(e)][: self.pairs]
        made = [(Rehearsal.of(e, Context()), e) for e in found]
        self._kept = [(r.observation, r.tokens.tolist(), r.mask.tolist(), e.world, e.seed) for r, e in made]

    def state_dict(self) -> Mapping[str, Any]:
        return {"kept": [list(each) for each in self._kept]} if self._kept else {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._kept = [tuple(each) for each in state.get("kept", ())]
