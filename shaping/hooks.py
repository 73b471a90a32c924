"""The frozen value types of the hooks: what interventions are told, and what they answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from envs.actions import marks_action
from envs.episode import Context, Episode
from envs.frozen import freeze, restore
from envs.text import valid
from shaping.activations import Activations as Activations
from shaping.adapter_limits import NormAlarm as NormAlarm
from shaping.adapter_limits import Subspace as Subspace

if TYPE_CHECKING:
    import torch

Phase = Literal["sampling", "training"]
RatioMode = Literal["sampler", "recomputed", "none"]


class Knob(StrEnum):
    """What an intervention may own. Two interventions of one arm may not own the same knob."""

    SAMPLING_CONTEXT = "sampling_context"
    TRAINING_CONTEXT = "training_context"
    EPISODE_CONTEXT = "episode_context"
    SAMPLING_EDITS = "sampling_edits"
    TRAINING_EDITS = "training_edits"
    ACTIONS = "actions"
    RATIO = "ratio"
    GATES = "gates"
    PREFILL = "prefill"


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
class Prefill:
    """Text that opens completions in place of the policy's own beginning: a forced motive. The policy goes on from it.

    It holds no action, so that every action stays possible behind it. Nothing of it is ever sampled: the sampler has no
    log-prob of it, and the learner computes the policy's.
    """

    text: str
    """The text, which the completion begins with. End it as the model would before it goes on."""
    name: str = "prefill"
    """What metrics and `Turn.forced` call it."""
    loss: Literal["in", "masked", "stripped"] = "masked"
    """`in`: its tokens are learned like sampled ones. `masked`: it is in the sequence, but not in the loss. `stripped`:
    the turn is learned as if it had not been there, which is off-policy: the arm must then set the ratio mode."""
    proposal: float | None = None
    """Its log-prob under the proposal that drew it. Its turns are then weighted by min(p(text) / proposal, cap) under
    the policy at the start of the update (`learner.mismatch_cap`). None: no correction."""
    turns: Literal["every", "first"] = "every"
    """The turns that it opens."""

    def __post_init__(self) -> None:
        if not isinstance(self.text, str) or not self.text.strip():
            raise InterventionError(f"a prefill needs text, not {self.text!r}")
        object.__setattr__(self, "text", valid(self.text))
        object.__setattr__(self, "name", valid(str(self.name)) or "prefill")
        if marks_action(self.text):
            raise InterventionError(f"the prefill {self.text!r} holds an action: force what stands before it alone")
        if self.loss not in ("in", "masked", "stripped") or self.turns not in ("every", "first"):
            raise InterventionError(f"a prefill has loss in, masked or stripped and turns every or first: {self!r}")
        if self.proposal is not None and not (_all_finite(self.proposal) and self.proposal <= 0):
            raise InterventionError(
                f"the log-prob of a prefill under its proposal is {self.proposal}; give a number <= 0"
            )
        if self.proposal is not None and self.loss == "stripped":
            raise InterventionError("a prefill that is stripped has no log-prob to correct with: leave `proposal` out")


@dataclass(frozen=True, slots=True, weakref_slot=True)
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
    player: str | None = None
    """The learned player whose adapter it is: active for that one alone. None: for every player."""
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
    activations: Mapping[str, Activations] = field(default_factory=dict)
    """Captured states of the learner's pass, by the name of the capture. Episodes are numbered as they stand in
    `groups`, one group after the other; those that were screened out have none."""

    def __post_init__(self) -> None:
        freeze(self, "groups", "metrics", "activations")

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
class Rehearsal:
    """Cross-entropy on what was said in an episode, under another system prompt. It is in no other loss."""

    observation: str
    """The first observation of the episode."""
    tokens: NDArray[np.int32]
    """What follows the rendered prompt and first observation [tokens]."""
    mask: NDArray[np.bool_]
    """True on the tokens that are imitated."""
    context: Context
    """The system prompt that is put before them."""
    weight: float = 1.0
    """Weight of each token."""

    def __post_init__(self) -> None:
        freeze(self, "tokens", "mask")
        if not 0 < self.weight < float("inf"):
            raise InterventionError(f"the weight of a rehearsal must be a positive finite number, not {self.weight!r}")
        if self.tokens.shape != self.mask.shape or self.tokens.ndim != 1:
            raise InterventionError(f"a rehearsal has {self.tokens.shape} tokens and a mask of {self.mask.shape}")

    def __setstate__(self, state: Any) -> None:
        restore(self, state)

    @classmethod
    def of(cls, episode: Episode, context: Context, weight: float = 1.0) -> Rehearsal:
        """What the policy said in an episode.

        Raises: `InterventionError` if the chat template breaks the episode into several sequences.
        """
        if len(episode.segments) > 1:
            raise InterventionError(
                "what was said is learned under another prompt, for which an episode must be one token sequence, but "
                "this model's chat template breaks the prefix at every turn: use one that keeps earlier turns unchanged"
            )
        end = int(np.flatnonzero(episode.loss_mask).max(initial=-1)) + 1
        part = slice(episode.head, end)
        return cls(episode.turns[0].observation, episode.tokens[part], episode.loss_mask[part], context, weight)


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
