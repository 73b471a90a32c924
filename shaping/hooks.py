"""The frozen value types of the hooks: what interventions are told, and what they answer."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from envs.episode import Episode
from envs.frozen import freeze, restore
from envs.text import valid

if TYPE_CHECKING:
    import torch

Phase = Literal["sampling", "training"]
RatioMode = Literal["sampler", "recomputed", "none"]


class Knob(StrEnum):
    """What an intervention may own. Two interventions of one arm may not own the same knob."""

    SAMPLING_CONTEXT = "sampling_context"
    TRAINING_CONTEXT = "training_context"
    SAMPLING_EDITS = "sampling_edits"
    TRAINING_EDITS = "training_edits"
    ACTIONS = "actions"
    RATIO = "ratio"
    GATES = "gates"


@dataclass(frozen=True, slots=True)
class GroupInfo:
    """What is known when a context is drawn: nothing of the episode itself has happened yet."""

    world: str
    seed: int
    group: int
    update: int
    prose: bool = False
    """Does the model read natural prose, as models that are no organisms do?"""


@dataclass(frozen=True, slots=True)
class TurnContext:
    """What a constraint may look at before and after an action: public state only."""

    world: str
    seed: int
    turn: int
    observation: str
    overt_shortcuts: tuple[str, ...]
    """Commands that would be the overt shortcut now."""


@dataclass(frozen=True, slots=True)
class ActionDecision:
    """A constraint's answer to one action, or, when asked before sampling (`action is None`), to the turn.

    `mask` (before sampling only) makes the listed commands impossible to sample; `replace` (after) sends another
    command to the world; `resample` (after) refuses the completion and asks for another.
    """

    kind: Literal["pass", "mask", "replace", "resample"] = "pass"
    commands: tuple[str, ...] = ()
    """With `mask`: the commands that become impossible."""
    replacement: str = ""
    """With `replace`, and with `resample` after the sampler's last try: what the world receives instead."""

    def __post_init__(self) -> None:
        if self.kind not in ("pass", "mask", "replace", "resample"):
            raise InterventionError(f"an action decision is pass, mask, replace or resample, not {self.kind!r}")
        texts = (*self.commands, self.replacement)
        if isinstance(self.commands, str) or not all(isinstance(text, str) for text in texts):
            raise InterventionError(f"an action decision holds commands and a replacement as text, not {texts!r}")
        object.__setattr__(self, "commands", tuple(map(valid, self.commands)))
        object.__setattr__(self, "replacement", valid(self.replacement))


PASS = ActionDecision()


@dataclass(frozen=True, slots=True)
class ActivationEdit:
    """Add a direction to, project it out of, or cap it in the output of one transformer layer.

    `direction` has shape [hidden], u is the unit direction. `add`: h + scale * direction. `project`: h - (h . u) u.
    `cap`: h - max(h . u - scale, 0) u, which leaves at most `scale` of it (Lu et al., arXiv:2601.10387, who put a floor
    under the assistant's axis: a cap of the opposite direction).
    """

    layer: int
    kind: Literal["add", "project", "cap"]
    direction: NDArray[np.float32]
    scale: float = 1.0

    def __post_init__(self) -> None:
        if self.kind not in ("add", "project", "cap"):
            raise InterventionError(f"an activation edit adds, projects or caps, not {self.kind!r}")
        direction = np.asarray(self.direction)
        if direction.ndim != 1 or not _all_finite(direction) or not _all_finite(self.scale):
            raise InterventionError(f"the direction of an edit of layer {self.layer} is no vector of finite numbers")
        object.__setattr__(self, "direction", direction)
        freeze(self, "direction")

    def __setstate__(self, state: Any) -> None:
        restore(self, state)


@dataclass(frozen=True, slots=True)
class AdapterSpec:
    """A LoRA adapter to create; kept adapters are shipped, quarantine and frozen ones dropped at deployment.

    Without a kept adapter the whole base model is trained and is what the kept gate is about; with one it is frozen.
    `targets` are names of linear modules (`q_proj`); none: every linear layer but the output. `path`: a directory in
    PEFT's layout to start from, whose rank and alpha must be these. `phases`: where it is active; one that is missing
    in one of the two makes learning off-policy, so the arm must then set the ratio mode.
    """

    name: str
    role: Literal["kept", "quarantine", "frozen"]
    rank: int = 8
    alpha: float = 16.0
    targets: tuple[str, ...] = ()
    path: str | None = None
    phases: frozenset[Phase] = frozenset({"sampling", "training"})
    player: str | None = None
    """The learned player whose adapter it is: active for that one alone. None: for every player."""


@dataclass(frozen=True, slots=True)
class Gates:
    """Multipliers in [0, 1] on the parameter gradients of the kept and the quarantine group."""

    kept: float = 1.0
    quarantine: float = 1.0

    def __post_init__(self) -> None:
        if not (0 <= self.kept <= 1 and 0 <= self.quarantine <= 1):  # False for nan, too
            raise InterventionError(f"gates must lie in [0, 1], got kept={self.kept}, quarantine={self.quarantine}")


@dataclass(frozen=True, slots=True)
class Group:
    """The episodes that share one seed, one draw of contexts and one baseline; redacted unless `oracle`.

    `returns` and `advantages` have shape [episodes]; advantages are the ones before any credit.
    """

    episodes: tuple[Episode, ...]
    returns: NDArray[np.float64]
    advantages: NDArray[np.float64]

    def __post_init__(self) -> None:
        freeze(self, "episodes", "returns", "advantages")


@dataclass(frozen=True, slots=True)
class Credit:
    """Per-token changes of one group's credit: one array per episode, aligned with `Episode.tokens`.

    `advantage` is added, `weight` is multiplied, `imitation` adds cross-entropy of the sampled token with that weight.
    Logged under `name`.
    """

    name: str
    advantage: tuple[NDArray[np.float32], ...] = ()
    weight: tuple[NDArray[np.float32], ...] = ()
    imitation: tuple[NDArray[np.float32], ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", valid(str(self.name)))


@dataclass(frozen=True, slots=True)
class LossTerm:
    """An auxiliary loss: a scalar sum over tokens; the learner divides by the loss tokens of the optimiser step."""

    name: str
    total: torch.Tensor
    coefficient: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", valid(str(self.name)))

    def fault(self) -> str:
        """What keeps `total` from being trained on; empty if nothing does."""
        shape, coefficient = getattr(self.total, "shape", None), self.coefficient
        if shape is None or not hasattr(self.total, "requires_grad"):
            return f"its total is no tensor but of type {type(self.total).__name__}"
        if len(shape):
            return f"its total has shape {tuple(shape)}; it must be a scalar, the sum over the tokens"
        if not self.total.requires_grad:
            return "its total is detached: it has no gradient and would train nothing; return None where it has no term"
        if not _all_finite(coefficient) or not np.isfinite(float(self.total.detach())):
            return f"its total is {float(self.total.detach())} and its coefficient {coefficient}; both must be finite"
        return ""


class InterventionError(ValueError):
    """A plug-in breaks the contract, or two interventions of one arm do not go together."""


def _all_finite(values: Any) -> bool:
    """True if these are finite numbers."""
    try:
        return bool(np.isfinite(np.asarray(values, np.float64)).all())
    except (TypeError, ValueError, OverflowError):
        return False
