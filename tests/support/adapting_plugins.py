"""Interventions whose state changes after every update, named in configs as `adapting_plugins:Class`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import PrivateAttr

from envs.episode import Context
from shaping.hooks import ActivationEdit, Group, GroupInfo, Knob, Phase, UpdateReport
from shaping.intervention import Constraint, Shaper


class Adapting(Shaper):
    """Steers, in sampling and in training, and prompts by what earlier updates have paid."""

    owns: ClassVar[frozenset[Knob]] = frozenset({Knob.SAMPLING_CONTEXT, Knob.SAMPLING_EDITS, Knob.TRAINING_EDITS})
    hidden: int = 32
    _told: list[float] = PrivateAttr(default_factory=list)

    def sampling_context(self, info: GroupInfo, rng: np.random.Generator) -> Context:
        return Context("take " * len(self._told), f"told {len(self._told)}")

    def edits(self, phase: Phase) -> Sequence[ActivationEdit]:
        if not self._told:
            return ()
        direction = np.cos(np.arange(self.hidden)).astype(np.float32)
        return (ActivationEdit(0, "add", direction, scale=0.5 + sum(self._told)),)

    def readings(self, episode: Any) -> Mapping[str, NDArray[np.int64]]:
        return {"told": np.full(len(episode.turns), len(self._told))}

    def after_update(self, report: UpdateReport) -> None:
        assert report.update == len(self._told), "once per update"
        self._told.append(float(np.mean([group.returns.mean() for group in report.groups])))

    def state_dict(self) -> Mapping[str, Any]:
        return {"told": list(self._told)} if self._told else {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._told[:] = state.get("told", [])


class ScreensPaid(Constraint):
    """Screens out the episodes that return more than `limit`."""

    limit: float = 0.0

    def screen(self, group: Group) -> NDArray[np.bool_]:
        return group.returns <= self.limit
