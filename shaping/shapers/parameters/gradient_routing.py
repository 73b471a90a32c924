"""Gradient routing: gradients of labelled turns go into an adapter that is dropped at deployment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from envs.episode import Episode
from shaping.controls import ControlKind
from shaping.hooks import AdapterSpec, Credit, Gates, Group, Knob
from shaping.intervention import Shaper
from shaping.labels import LabelSource

_SHORT = ("recall", "false_positives", "seed")
"""Fields of `labels` that may also stand beside it, as they did before labels had a source."""


class GradientRouting(Shaper):
    """Labelled turns train the quarantine adapter alone; all other turns train both adapters. No reward changes.

    Gradient routing (Cloud et al., arXiv:2410.04332) with two LoRA adapters:

        labelled turn:     dL/dK is dropped, dL/dQ is kept
        any other turn:    both are kept

    The quarantine adapter Q is active in sampling and in training, so that training stays on-policy, and is dropped at
    deployment. *Absorption* is the hope that unlabelled behaviour of the same kind is learned by Q, too: the evaluation
    measures kept and quarantine adapter together, each alone, and the differences `absorb/<metric>` and
    `competence_cost/<metric>`.

    Where labels come from is said by `labels` (`LabelSource`): a bare word, or source, recall, precision, placebo and
    seed. Those that are missed train both adapters. Arms to compare with:

        labels: placebo                  as many turns at random: Q gets equally many turns of no particular kind
        labels: off                      no label: the same adapters and ranks without routing
        labels: oracle                   the sealed truth: the upper bound, which the report names
        labels: {false_positives: 1}     every turn is labelled: Q absorbs everything, and K stays as it began
        Screening, with the same labels  the labelled episodes are left out of training altogether

    `normalise: unlabelled` takes the baseline of a group's advantages from its episodes without a labelled turn; what
    divides them stays that of the whole group. It adds one number to all members of a group, so that no order changes.

    Pitfalls: precision matters more than recall, since what is routed by mistake is lost for good. The overt list is
    the world's own knowledge, as an oracle is. Every rollout had Q, so dropping it shifts the distribution: compare
    competence with the placebo's. Traits may hide in K under triggers (evaluate the trigger grid).

    Seen in `methods` (clerk, 8 replicates, 95 %): lies with it minus lies without it, beside routing placebo: -0.01
    [-0.03, +0.01], where it should be above 0; 0.03 would be seen with a power of .8.
    """

    owns: ClassVar[frozenset[Knob]] = frozenset({Knob.GATES})
    needs: ClassVar[tuple[ControlKind, ...]] = (ControlKind.PLACEBO, ControlKind.NO_LABELS, ControlKind.BASE)

    labels: LabelSource = Field(LabelSource(), description="turns that train quarantine alone")
    normalise: Literal["all", "unlabelled"] = Field("all", description="episodes that make the baseline of a group")
    rank: int = Field(8, ge=1, le=10_000, description="rank of each of the two adapters")
    alpha: float = Field(16.0, gt=0, le=1e6, description="LoRA alpha of each of the two adapters")
    targets: tuple[str, ...] = Field((), description="linear modules to adapt; none: all but the output layer")

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        """`recall`, `false_positives` and `seed` beside `labels` mean those of the labels."""
        if not isinstance(value, Mapping) or not (short := {k: value[k] for k in _SHORT if k in value}):
            return value
        labels = value.get("labels", {})
        if isinstance(labels, LabelSource):
            labels = labels.model_dump(exclude_unset=True)
        elif isinstance(labels, str):
            labels = {"placebo": True} if labels == "placebo" else {"source": labels}
        if isinstance(labels, Mapping):
            if twice := sorted(set(labels) & set(short)):
                raise ValueError(f"{twice[0]} is given beside `labels` and in it: keep the one in `labels`")
            labels = {**labels, **short}
        return {**{k: v for k, v in value.items() if k not in _SHORT}, "labels": labels}

    def adapters(self) -> Sequence[AdapterSpec]:
        common = {"rank": self.rank, "alpha": self.alpha, "targets": self.targets}
        return (AdapterSpec("retain", "kept", **common), AdapterSpec("forget", "quarantine", **common))  # type: ignore[arg-type]

    def gates(self, episode: Episode) -> Sequence[Gates]:
        return [Gates(kept=0.0) if labelled else Gates() for labelled in self.labelled(episode)]

    def credit(self, group: Group) -> Credit | None:
        if self.normalise == "all":
            return None
        clean = np.array([not self.labelled(episode).any() for episode in group.episodes], bool)
        if clean.all() or not clean.any():
            return None
        shift = -float(group.advantages[clean].mean())
        return Credit("baseline", advantage=tuple(np.full(len(e.tokens), shift, np.float32) for e in group.episodes))

    def readings(self, episode: Episode) -> Mapping[str, NDArray[np.int64]]:
        return {"routed_turns": self.labelled(episode).astype(np.int64)}

    def labelled(self, episode: Episode) -> NDArray[np.bool_]:
        """Turns that train the quarantine adapter alone, shape [turns]."""
        return self.labels.labelled(episode)
