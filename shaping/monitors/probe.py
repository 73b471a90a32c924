"""The monitor of hidden states: a linear probe that was fitted to labelled turns before training."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from envs.episode import Episode, SpanKind
from shaping.directions.probe_set import ProbeError, ProbeSet
from shaping.hooks import Capture, Positions
from shaping.monitors.base import Monitor, MonitorError, Reading, Trait

_KINDS = {"motive": SpanKind.MOTIVE, "action": SpanKind.ACTION}


class LinearProbe(Monitor):
    """Scores the mean hidden state of each turn with linear probes of `shaping probe fit` (arXiv:2502.03407).

    The engine keeps the states while it samples, so that no pass is added; only the transformers engine shows them.
    Episodes that no engine sampled have no states and get no readings: `shaping probe read` gives them states, under
    the policy (p_pol) and under the frozen model (p_ref). A policy may learn text that a probe does not recognise, or
    its states may drift away from the probe, even without any penalty (arXiv:2602.15515): p_ref stays low in the first
    case, and p_pol alone falls in the second. Hold it out: a policy that trains against it learns to hide.
    """

    name: str = "probe"
    """Name in readings, metrics and reports."""
    trait: Trait = "deception"
    """The trait that the probe was fitted to."""
    path: str = Field(
        description="a file that `shaping probe fit` made of the model that the run starts from",
        examples=["probe.safetensors"],
    )
    positions: Positions | None = Field(
        None, description="tokens of a turn whose mean state is read; none: those that the probe was fitted to"
    )

    @cached_property
    def probes(self) -> ProbeSet:
        """What the file holds. Raises: `ProbeError`, also for a probe of another trait."""
        found = ProbeSet.load(Path(self.path).expanduser())
        if (fitted := found.card.get("trait", self.trait)) != self.trait:
            raise ProbeError(f"{self.path} was fitted to {fitted!r}, and the monitor is of {self.trait!r}")
        return found

    def captures(self) -> Sequence[Capture]:
        return [Capture(self.capture, self.probes.layers, self._positions, "sampling")]

    def read(self, episode: Episode) -> list[Reading]:
        if self.capture not in episode.activations:
            return []
        states = episode.activations[self.capture]
        try:
            scores = self.probes.scores(states)
        except ProbeError as error:
            raise MonitorError(f"monitor {self.name!r}, {self.path}: {error}") from None
        finite = np.isfinite(scores)
        if (broken := np.flatnonzero(~finite & self._spoken(episode))).size:
            raise MonitorError(
                f"monitor {self.name!r}: the hidden state of turn {int(broken[0])} of {episode.world!r}, seed "
                f"{episode.seed}, is not finite, so the model has diverged: it has no score"
            )
        return [Reading(self.name, self.trait, int(turn), float(scores[turn])) for turn in np.flatnonzero(finite)]

    def _spoken(self, episode: Episode) -> NDArray[np.bool_]:
        """Which turns have tokens at the positions that are read [turns]; the others have no state."""
        own = episode.loss_mask & (episode.span_kind != SpanKind.FORCED)
        if (kind := _KINDS.get(self._positions)) is not None:
            own = own & (episode.span_kind == kind)
        found: NDArray[np.bool_] = np.isin(np.arange(len(episode.turns)), episode.turn_index[own])
        return found

    @property
    def _positions(self) -> Positions:
        fitted: Positions = self.probes.card.get("positions", "response")
        return self.positions or fitted

    @property
    def capture(self) -> str:
        """Name of its states in `Episode.activations`."""
        return f"monitor/{self.name}"
