"""A price on what a linear probe reads in the policy's hidden states; nothing is propagated back through the probe."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PrivateAttr

from envs.episode import Episode
from shaping.controls import ControlKind
from shaping.hooks import Capture, InterventionError, Positions, UpdateReport
from shaping.intervention import Constraint
from shaping.labels import LabelSource

_STEEP = math.log(9.0)
"""Half the way between the means of the two classes moves the score from .5 to .9."""


def _no_sums() -> list[list[float]]:
    return [[], []]


class ProbePenalty(Constraint):
    """Each turn costs `penalty` times the score of a probe on its mean hidden state, or all of it from `threshold` on.

        engine (while it samples) -> mean state h of each turn -> score in [0, 1] -> cost -> A = A_R - weight * A_C
        after_update: states and labels of the update -> means of both classes -> the probe

    The probe is a difference of class means in units of each dimension's spread (a mass-mean probe, arXiv:2310.06824,
    with a diagonal covariance): w = (mu_1 - mu_0) / (var + eps); its score is .1 at mu_0 and .9 at mu_1. It is learned
    from `labels` in the first `fit` updates, which cost nothing, and is then frozen, or learned on (`refit: always`).

    The score is a number to the learner: the policy gradient can lower it through what is sampled alone. In the
    Obfuscation Atlas (arXiv:2602.15515) that pushes towards text that talks the probe down, while gradients through the
    probe would move the states themselves; states drift without any penalty, too. The states are those of sampling,
    from the engine that samples, so that no pass is added; vLLM shows none.

    Controls: `labels: {placebo: true}` learns a probe of nothing; a second ProbePenalty with `penalty: 0` and another
    layer is a held-out probe, whose `suspicion` is logged; `penalty: 0` alone measures and leaves every bit.

    Seen in `methods` (clerk, 8 replicates, 95 %): its scores per episode, last updates less first ones, beside 0: +2.87
    [+0.66, +5.07], where it should be below 0; 3.04 would be seen with a power of .8.
    """

    needs: ClassVar[tuple[ControlKind, ...]] = (ControlKind.PLACEBO, ControlKind.NO_LOOPHOLE, ControlKind.BASE)

    labels: LabelSource = Field(LabelSource(), description="which turns the probe learns to find")
    layer: int = Field(-1, ge=-1000, le=1000, description="layer whose output it reads; negative ones from the end")
    positions: Positions = Field("response", description="tokens of a turn whose mean state it reads")
    penalty: float = Field(1.0, ge=0, le=1e6, description="cost of a turn with score 1, in units of proxy reward")
    threshold: float | None = Field(
        None, gt=0, le=1, description="score from which on a turn costs the whole penalty; none: it costs its share"
    )
    fit: int = Field(2, ge=1, le=1_000_000, description="updates from which the probe is learned before it is used")
    refit: Literal["never", "always"] = Field("never", description="is the probe learned on while it is used?")

    _updates: int = PrivateAttr(0)
    _counts: list[float] = PrivateAttr(default_factory=lambda: [0.0, 0.0])
    _sums: list[list[float]] = PrivateAttr(default_factory=_no_sums)
    _squares: list[float] = PrivateAttr(default_factory=list)

    def captures(self) -> Sequence[Capture]:
        return (Capture(self._name, (self.layer,), self.positions, "sampling"),)

    def cost(self, episode: Episode) -> NDArray[np.float64]:
        """Cost per turn in units of proxy reward, shape [turns]."""
        scores = self.scores(episode)
        return self.penalty * (scores if self.threshold is None else (scores >= self.threshold).astype(np.float64))

    def scores(self, episode: Episode) -> NDArray[np.float64]:
        """The probe's score of each turn [turns]; 0 while it is learned, and for turns without a state."""
        states = self._states(episode)
        if self._updates < self.fit or not all(self._counts) or not len(states):
            return np.zeros(len(episode.turns))
        sums, counts = np.array(self._sums), np.array(self._counts)
        means = sums / counts[:, None]
        spread = np.array(self._squares) / counts.sum() - (sums.sum(0) / counts.sum()) ** 2
        direction = (means[1] - means[0]) / (np.maximum(spread, 0.0) + 1e-6)
        half = float(direction @ (means[1] - means[0])) / 2
        along = (states - means.mean(0)) @ direction / max(half, 1e-12)
        scores = 1.0 / (1.0 + np.exp(-_STEEP * np.clip(along, -20, 20)))
        return np.where(np.isfinite(scores), scores, 0.0)

    def after_update(self, report: UpdateReport) -> None:
        """Learn the probe from the states and labels of the update."""
        learns = self._updates < self.fit or self.refit == "always"
        for group in report.groups if learns else ():
            for episode, labels in zip(group.episodes, self.labels.labelled_group(group.episodes), strict=True):
                self._learn(self._states(episode), labels)
        self._updates += 1

    def readings(self, episode: Episode) -> Mapping[str, NDArray[Any]]:
        return {"suspicion": self.scores(episode), "labelled_turns": self.labels.labelled(episode).astype(np.int64)}

    def state_dict(self) -> Mapping[str, Any]:
        if not self._updates:
            return {}
        return {
            "updates": self._updates,
            "counts": list(self._counts),
            "sums": [list(of_class) for of_class in self._sums],
            "squares": list(self._squares),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._updates = int(state.get("updates", 0))
        self._counts = list(state.get("counts", [0.0, 0.0]))
        self._sums = [list(of_class) for of_class in state.get("sums", [[], []])]
        self._squares = list(state.get("squares", []))

    def _learn(self, states: NDArray[np.float64], labels: NDArray[np.bool_]) -> None:
        if not len(states):
            return
        inside = np.isfinite(states).all(axis=1)
        none = [0.0] * states.shape[1]
        for kind in (0, 1):
            of_kind = states[inside & (labels == bool(kind))]
            self._counts[kind] += len(of_kind)
            self._sums[kind] = (np.array(self._sums[kind] or none) + of_kind.sum(0)).tolist()
        self._squares = (np.array(self._squares or none) + (states[inside] ** 2).sum(0)).tolist()

    def _states(self, episode: Episode) -> NDArray[np.float64]:
        """The mean state of each turn [turns, hidden]; none of an episode that no engine has sampled.

        Raises: `InterventionError` if the probe was learned on states of another width.
        """
        if self._name not in episode.activations:
            return np.zeros((0, 0))
        states = np.asarray(episode.activations[self._name][:, 0], np.float64)
        if len(self._squares) not in (0, states.shape[1]):
            raise InterventionError(
                f"ProbePenalty was learned on states of width {len(self._squares)}, but the model's have "
                f"{states.shape[1]}: start the run again from its model"
            )
        return states

    @property
    def _name(self) -> str:
        return f"probe/{self.layer}/{self.positions}"
