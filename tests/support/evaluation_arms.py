"""Interventions that an evaluation must tell apart from the policy that is deployed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from shaping.hooks import ActivationEdit, Knob, Phase
from shaping.intervention import Shaper
from shaping.learning.policy import Policy


class Steered(Shaper):
    """Samples with an activation edit."""

    owns: ClassVar[frozenset[Knob]] = frozenset({Knob.SAMPLING_EDITS, Knob.TRAINING_EDITS})

    def edits(self, phase: Phase) -> Sequence[ActivationEdit]:
        return [ActivationEdit(0, "add", np.ones(32, np.float32))]


class Undoing(Shaper):
    """Notes when it is deployed."""

    seen: ClassVar[list[Any]] = []

    def deploy(self, policy: Policy) -> None:
        type(self).seen.append("undone")
