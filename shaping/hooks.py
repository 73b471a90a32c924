"""The frozen value types of the hooks: what interventions are told, and what they answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Literal, get_args

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


Positions = Literal["response", "motive", "action", "prompt_end"]


@dataclass(frozen=True, slots=True)
class Capture:
    """Hidden states that a plug-in wants to see: outputs of whole layers, after the edits of the phase.

    `training`: from the learner's own pass, under the training context; `auxiliary_loss` finds them, with gradient, in
    `policy.captured[name]`, and `after_update` their means per turn in `report.activations[name]`. `sampling`: from the
    engine, under the sampling context; their means per turn are in `episode.activations[name]`.
    """

    name: str
    """What they are called. Plug-ins of one run that ask for the same name must ask for the same states."""
    layers: tuple[int, ...] | Literal["all"] = "all"
    """Layers from 0; negative ones from the end."""
    positions: Positions = "response"
    """The sampled tokens of a turn, those of its motive or its action, or the last token before them."""
    phase: Phase = "training"
    """The pass that they come from."""

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise InterventionError(f"a capture has a name, not {self.name!r}")
        object.__setattr__(self, "name", valid(self.name))
        if self.layers != "all":
            layers = self.layers if isinstance(self.layers, (tuple, list)) else None
            if not layers or any(isinstance(n, bool) or not isinstance(n, (int, np.integer)) for n in layers):
                raise InterventionError(
                    f"capture {self.name!r}: layers are 'all' or whole numbers, at least one, not {self.layers!r}"
                )
            object.__setattr__(self, "layers", tuple(int(n) for n in layers))
        for field_name, known in (("positions", Positions), ("phase", Phase)):
            if (given := getattr(self, field_name)) not in get_args(known):
                raise InterventionError(
                    f"capture {self.name!r}: {field_name} is {given!r}; choose one of {', '.join(get_args(known))}"
                )


@dataclass(frozen=True, slots=True)
class Activations:
    """The detached states of one capture in an update, as means over the tokens of each turn."""

    layers: tuple[int, ...]
    """The layers, counted from 0."""
    turns: Mapping[tuple[int, int], NDArray[np.float32]]
    """(number of the episode in the update, number of the turn) -> mean [layers, hidden]. A turn that is in no loss is
    missing."""

    def __post_init__(self) -> None:
        freeze(self, "turns")

    def __setstate__(self, state: Any) -> None:
        restore(self, state)

    def of(self, episode: int, turns: int) -> NDArray[np.float32]:
        """Means of one episode [turns, layers, hidden]; nan for turns that are missing."""
        shape = next((mean.shape for mean in self.turns.values()), (len(self.layers), 0))
        found = np.full((turns, *shape), np.nan, np.float32)
        for turn in range(turns):
            if (mean := self.turns.get((episode, turn))) is not None:
                found[turn] = mean
        return found


@dataclass(frozen=True, slots=True)
class Subspace:
    """Where an adapter may write: per layer into the span of directions (`inside`), or only outside of it.

    `path`: a safetensors file with a tensor [k, hidden] or [hidden] per layer, whose name ends in the layer's number.
    `random`: seed of random directions in their place, as many per layer as the file has; without a file `rank`.
    """

    inside: bool
    path: str | None = None
    random: int | None = None
    rank: int = 4


@dataclass(frozen=True, slots=True)
class NormAlarm:
    """What to do once an adapter's norm is above a limit after an update: see `shaping.learning.adapter_norms`."""

    limit: float
    action: Literal["record", "stop", "rewind"] = "record"


@dataclass(frozen=True, slots=True)
class AdapterSpec:
    """A LoRA adapter to create; kept adapters are shipped, quarantine and frozen ones dropped at deployment.

    Without a kept adapter the whole base model is trained and is what the kept gate is about; with one it is frozen.
    `targets` are names of linear modules (`q_proj`); none: every linear layer but the output. `path`: a directory in
    PEFT's layout to start from, whose rank and alpha must be these. `phases`: where it is active. One that is missing
    in one of the two makes learning off-policy, so the arm must then set the ratio mode; a kept one that is in neither
    is added at deployment. `subspace`: it adapts modules that write to the residual stream, and is confined there.
    """

    name: str
    role: Literal["kept", "quarantine", "frozen"]
    rank: int = 8
    alpha: float = 16.0
    targets: tuple[str, ...] = ()
    path: str | None = None
    phases: frozenset[Phase] = frozenset({"sampling", "training"})
    subspace: Subspace | None = None
    alarm: NormAlarm | None = None


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

    `returns` and `advantages` have shape [episodes]; advantages are the ones before any credit, and zeros where
    `screen` is asked, before there are any.
    """

    episodes: tuple[Episode, ...]
    returns: NDArray[np.float64]
    advantages: NDArray[np.float64]

    def __post_init__(self) -> None:
        freeze(self, "episodes", "returns", "advantages")


@dataclass(frozen=True, slots=True)
class UpdateReport:
    """What `after_update` is told of an update that has been learned from."""

    update: int
    """Its number, from 0."""
    groups: tuple[Group, ...]
    """All its groups, with the episodes that were screened out, whose advantage is 0."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """The learner's metrics."""

    def __post_init__(self) -> None:
        freeze(self, "groups", "metrics")

    def __setstate__(self, state: Any) -> None:
        restore(self, state)

    def redacted(self) -> UpdateReport:
        """The copy without ground truth."""
        groups = tuple(replace(group, episodes=tuple(e.redacted() for e in group.episodes)) for group in self.groups)
        return replace(self, groups=groups)


@dataclass(frozen=True, slots=True)
class Pricing:
    """How a constraint's costs enter the advantage: (A_R - sum of rate * A_C) / (1 + sum of the averaged rates).

    A_R are the advantages of rewards, A_C those of the constraint's costs.
    """

    rate: float
    """Exchange rate of costs now (lambda)."""
    apart: bool = False
    """Are costs divided by their own spread? Else by the number that divides rewards, so that the rate is a price."""
    averaged: bool = False
    """Does its rate count in the divisor, so that a high one takes the place of the reward instead of adding to it?"""

    def __post_init__(self) -> None:
        if not 0 <= self.rate < float("inf"):  # False for nan, too
            raise InterventionError(f"the rate of a cost must be a finite number from 0, not {self.rate!r}")


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
