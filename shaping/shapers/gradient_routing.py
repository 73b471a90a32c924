"""Gradient routing: what a labelled turn teaches goes into an adapter that is dropped at deployment."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from envs.core import draw, normalise
from envs.episode import Episode
from shaping.hooks import AdapterSpec, Gates, Knob
from shaping.intervention import Shaper


class GradientRouting(Shaper):
    """Labelled turns train the quarantine adapter alone, all others both; the reward is untouched.

    Gradient routing (Cloud et al., arXiv:2410.04332) with two LoRA adapters. The quarantine adapter is active whenever
    the policy samples or learns, so that training stays on-policy, and is dropped at deployment. *Absorption* is the
    hope that what is not labelled but of the same kind settles there, too.

    A turn is labelled if it takes the overt shortcut that the world lists for it: what an action mask would remove.
    `recall` is the share of such turns that the labeller finds, `false_positives` the share of the others that it
    labels by mistake. The controls: `placebo` labels as many turns of an episode, chosen at random, so that
    quarantine gets as much to learn but nothing in particular; `off` labels none, with the same adapters.
    """

    owns: ClassVar[frozenset[Knob]] = frozenset({Knob.GATES})

    labels: Literal["overt", "placebo", "off"] = Field("overt", description="which turns go to quarantine alone")
    recall: float = Field(1.0, ge=0, le=1, description="share of overt shortcuts that are labelled")
    false_positives: float = Field(0.0, ge=0, le=1, description="share of all other turns that are labelled")
    rank: int = Field(8, ge=1, description="rank of each of the two adapters")
    alpha: float = Field(16.0, gt=0)
    targets: tuple[str, ...] = Field((), description="linear modules to adapt; none: all but the output layer")
    seed: int = 0

    def adapters(self) -> Sequence[AdapterSpec]:
        common = {"rank": self.rank, "alpha": self.alpha, "targets": self.targets}
        return (AdapterSpec("retain", "kept", **common), AdapterSpec("forget", "quarantine", **common))  # type: ignore[arg-type]

    def gates(self, episode: Episode) -> Sequence[Gates]:
        return [Gates(kept=0.0) if labelled else Gates() for labelled in self.labelled(episode)]

    def readings(self, episode: Episode) -> Mapping[str, NDArray[np.int64]]:
        return {"routed_turns": self.labelled(episode).astype(np.int64)}

    def labelled(self, episode: Episode) -> NDArray[np.bool_]:
        """Which turns [turns] train the quarantine adapter alone: a function of the episode's public record."""
        if self.labels == "off":
            return np.zeros(len(episode.turns), bool)
        # the episodes of a group share a seed: their own tokens tell them apart
        key = f"{self.seed}|".encode() + episode.tokens.tobytes()
        own = int.from_bytes(hashlib.blake2b(key, digest_size=7).digest())
        found = np.array([normalise(turn.executed) in turn.overt_shortcuts for turn in episode.turns], bool)
        noise = np.array([draw(own, "label", t) for t in range(len(found))])
        labelled = np.where(found, noise < self.recall, noise < self.false_positives)
        if self.labels == "overt":
            return labelled
        order = sorted(range(len(found)), key=lambda t: draw(own, "placebo", t))
        shuffled = np.zeros(len(found), bool)
        shuffled[order[: int(labelled.sum())]] = True
        return shuffled
