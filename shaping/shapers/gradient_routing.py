"""Gradient routing: gradients of labelled turns go into an adapter that is dropped at deployment."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from envs.core import draw, normalise
from envs.episode import Episode
from shaping.controls import ControlKind
from shaping.hooks import AdapterSpec, Gates, Knob
from shaping.intervention import Shaper


class GradientRouting(Shaper):
    """Labelled turns train the quarantine adapter alone; all other turns train both adapters. No reward changes.

    Gradient routing (Cloud et al., arXiv:2410.04332) with two LoRA adapters. The quarantine adapter is active in
    sampling and in training, so that training stays on-policy, and is dropped at deployment. *Absorption* is the hope
    that unlabelled behaviour of the same kind is learned by the quarantine adapter, too.

    A turn is labelled if it takes the overt shortcut that the world lists for it: the commands that an action mask
    would remove. `recall` is the share of such turns that the labeller finds; those that it misses train both adapters,
    as unlabelled turns do. `false_positives` is the share of all other turns that it labels by mistake. The controls:
    `placebo` labels the same number of turns of an episode, chosen at random, so that the quarantine adapter gets
    equally many turns of no particular kind; `off` labels no turn and has the same adapters.
    """

    owns: ClassVar[frozenset[Knob]] = frozenset({Knob.GATES})
    needs: ClassVar[tuple[ControlKind, ...]] = (ControlKind.PLACEBO, ControlKind.NO_LABELS, ControlKind.BASE)

    labels: Literal["overt", "placebo", "off"] = Field("overt", description="turns that train quarantine alone")
    recall: float = Field(1.0, ge=0, le=1, description="share of overt shortcuts that are labelled")
    false_positives: float = Field(0.0, ge=0, le=1, description="share of all other turns that are labelled")
    rank: int = Field(8, ge=1, le=10_000, description="rank of each of the two adapters")
    alpha: float = Field(16.0, gt=0, le=1e6, description="LoRA alpha of each of the two adapters")
    targets: tuple[str, ...] = Field((), description="linear modules to adapt; none: all but the output layer")
    seed: int = Field(0, ge=0, le=2**32 - 1, description="seed of the labeller's errors and of the placebo")

    def adapters(self) -> Sequence[AdapterSpec]:
        common = {"rank": self.rank, "alpha": self.alpha, "targets": self.targets}
        return (AdapterSpec("retain", "kept", **common), AdapterSpec("forget", "quarantine", **common))  # type: ignore[arg-type]

    def gates(self, episode: Episode) -> Sequence[Gates]:
        return [Gates(kept=0.0) if labelled else Gates() for labelled in self.labelled(episode)]

    def readings(self, episode: Episode) -> Mapping[str, NDArray[np.int64]]:
        return {"routed_turns": self.labelled(episode).astype(np.int64)}

    def labelled(self, episode: Episode) -> NDArray[np.bool_]:
        """Turns that train the quarantine adapter alone, shape [turns]. A function of the episode's public record."""
        if self.labels == "off":
            return np.zeros(len(episode.turns), bool)
        # Episodes of a group share a seed; their tokens tell them apart.
        key = f"{self.seed}|".encode() + episode.tokens.tobytes()
        episode_seed = int.from_bytes(hashlib.blake2b(key, digest_size=7).digest())
        overt = np.array([normalise(turn.executed) in turn.overt_shortcuts for turn in episode.turns], bool)
        noise = np.array([draw(episode_seed, "label", t) for t in range(len(overt))])
        labelled = np.where(overt, noise < self.recall, noise < self.false_positives)
        if self.labels == "overt":
            return labelled
        order = sorted(range(len(overt)), key=lambda t: draw(episode_seed, "placebo", t))
        shuffled = np.zeros(len(overt), bool)
        shuffled[order[: int(labelled.sum())]] = True
        return shuffled
