"""Interventions: the plug-ins that bias *why* an agent explores (`Shaper`) or limit *what* it does (`Constraint`).

Fields are configuration, methods are hooks, and every default is neutral. The loop calls hooks and knows no method by
name, so that adding a method is one new file:

    play     acting_context, edits("acting"), allow
    credit   cost, credit, ratio_mode
    learn    learning_context, edits("learning"), adapters, gates, auxiliary_loss
    deploy   deploy
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from envs.episode import Context, Episode

if TYPE_CHECKING:
    import torch

    from shaping.learning.policy import Policy

Phase = Literal["acting", "learning"]
RatioMode = Literal["cross", "recompute", "none"]


class Knob(StrEnum):
    """What an intervention may own. Two interventions of one arm may not own the same knob."""

    ACTING_CONTEXT = "acting_context"
    LEARNING_CONTEXT = "learning_context"
    ACTING_EDITS = "acting_edits"
    LEARNING_EDITS = "learning_edits"
    ACTIONS = "actions"
    RATIO = "ratio"
    GATES = "gates"


@dataclass(frozen=True, slots=True)
class Brief:
    """What is known when a context is drawn: nothing of the episode itself has happened yet."""

    world: str
    seed: int
    group: int
    update: int


@dataclass(frozen=True, slots=True)
class TurnContext:
    """What a constraint may look at before and after an action: public state only."""

    world: str
    seed: int
    turn: int
    observation: str
    overt: tuple[str, ...]
    """Commands that would be the overt shortcut now."""


@dataclass(frozen=True, slots=True)
class Allowed:
    """A constraint's answer to one action, or, when asked before sampling (`action is None`), to the turn.

    `mask` (before sampling only) makes the listed commands impossible to sample; `replace` (after) sends another
    command to the world; `resample` (after) refuses the completion and asks for another.
    """

    kind: Literal["pass", "mask", "replace", "resample"] = "pass"
    commands: tuple[str, ...] = ()
    """With `mask`: the commands that become impossible."""
    replacement: str = ""
    """With `replace`, and with `resample` after the sampler's last try: what the world receives instead."""


PASS = Allowed()


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
    phases: frozenset[Phase] = frozenset({"acting", "learning"})


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


@dataclass(frozen=True, slots=True)
class LossTerm:
    """An auxiliary loss: a scalar sum over tokens; the learner divides by the loss tokens of the optimiser step."""

    name: str
    total: torch.Tensor
    coefficient: float = 1.0


class Intervention(BaseModel):
    """Base of everything that can be plugged into an arm. Subclass `Shaper` or `Constraint`, not this."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    owns: ClassVar[frozenset[Knob]] = frozenset()
    """The knobs this intervention sets exclusively; conflicts are refused when an arm is built."""
    oracle: ClassVar[bool] = False
    """Does it read sealed labels? Reports print that in the arm's name."""

    def acting_context(self, brief: Brief, rng: np.random.Generator) -> Context:
        """The context episodes of one group are sampled under (c_s). One draw per group."""
        return Context()

    def learning_context(self, brief: Brief, drawn: Context, rng: np.random.Generator) -> Context:
        """The context the same group is learned under (c_t), given the drawn c_s. One draw per group."""
        return drawn

    def edits(self, phase: Phase) -> Sequence[ActivationEdit]:
        return ()

    def adapters(self) -> Sequence[AdapterSpec]:
        return ()

    def ratio_mode(self) -> RatioMode:
        """Old log-probs of the policy ratio: the sampler's (`cross`), recomputed under c_t, or none (REINFORCE)."""
        return "cross"

    def credit(self, group: Group) -> Credit | None:
        """Pure: per-token additions to the advantage, factors of the weight, and weights of imitation."""
        return None

    def gates(self, episode: Episode) -> Gates | Sequence[Gates]:
        """What an episode may teach the kept and the quarantine parameters: one answer, or one per turn.

        With different gates in one episode, sequence-level ratios and weights are taken over each gate's tokens alone.
        """
        return Gates()

    def readings(self, episode: Episode) -> Mapping[str, NDArray[np.int64]]:
        """What this intervention came to know of an episode, per turn [turns]; logged by name, used by nothing."""
        return {}

    def auxiliary_loss(self, policy: Policy, batch: Sequence[Any]) -> LossTerm | None:
        """An extra loss on a micro-batch of `shaping.learning.sample.Sample`s that are in the policy loss."""
        return None

    def state_dict(self) -> Mapping[str, Any]:
        """JSON-serialisable state that a checkpoint must hold."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        if state:
            raise ValueError(f"{type(self).__name__} keeps no state but a checkpoint holds {sorted(state)} for it")

    def deploy(self, policy: Policy) -> None:
        """Undo, before evaluation, whatever the hooks above left on the policy."""


class Shaper(Intervention):
    """Biases motivations. It cannot veto, replace or penalise an action, and it leaves every reward reachable."""


class Constraint(Intervention):
    """Limits or prices actions."""

    weight: float = Field(1.0, ge=0)
    """Multiplier of the group-normalised cost advantage (lambda)."""

    def allow(self, turn: TurnContext, action: str | None) -> Allowed:
        """Called before sampling with `action=None` (may mask) and after sampling with the command (may not)."""
        return PASS

    def cost(self, episode: Episode) -> NDArray[np.float64] | None:
        """Cost per turn, shape [turns]; normalised within the group apart from the reward. None: this sets no cost."""
        return None


#: Exclusive hooks: to override one, an intervention must own (one of) these knobs.
_HOOKS: dict[str, tuple[Knob, ...]] = {
    "acting_context": (Knob.ACTING_CONTEXT,),
    "learning_context": (Knob.LEARNING_CONTEXT,),
    "edits": (Knob.ACTING_EDITS, Knob.LEARNING_EDITS),
    "ratio_mode": (Knob.RATIO,),
    "gates": (Knob.GATES,),
    "allow": (Knob.ACTIONS,),
}
_PHASES: dict[Phase, Knob] = {"acting": Knob.ACTING_EDITS, "learning": Knob.LEARNING_EDITS}


class InterventionError(ValueError):
    """A plug-in breaks the contract, or two interventions of one arm do not go together."""


@dataclass(frozen=True)
class Arm:
    """A named set of interventions, checked for conflicts, with one method per hook (see `compose`)."""

    name: str
    interventions: tuple[Intervention, ...] = ()
    owner: Mapping[Knob, Intervention] = field(default_factory=dict)

    @property
    def family(self) -> Literal["motivation", "constraint", "control", "mixed"]:
        shapers = any(isinstance(i, Shaper) for i in self.interventions)
        constraints = any(isinstance(i, Constraint) for i in self.interventions)
        return {(True, False): "motivation", (False, True): "constraint", (True, True): "mixed"}.get(
            (shapers, constraints), "control"
        )  # type: ignore[return-value]

    @property
    def constraints(self) -> tuple[Constraint, ...]:
        return tuple(i for i in self.interventions if isinstance(i, Constraint))

    @property
    def oracle(self) -> bool:
        return any(i.oracle for i in self.interventions)

    def contexts(self, brief: Brief, rng: np.random.Generator) -> tuple[Context, Context]:
        """One draw of (c_s, c_t) for a group. If they differ, some intervention must have set the ratio mode."""
        acting = self.owner.get(Knob.ACTING_CONTEXT)
        drawn = acting.acting_context(brief, rng) if acting else Context()
        learning = self.owner.get(Knob.LEARNING_CONTEXT)
        learned = learning.learning_context(brief, drawn, rng) if learning else drawn
        if learned != drawn and Knob.RATIO not in self.owner:
            raise InterventionError(
                f"arm {self.name!r}: episodes are sampled under {drawn.name!r} but learned under {learned.name!r}, and "
                "no intervention says what the policy ratio is then; define ratio_mode() and list Knob.RATIO in `owns`"
            )
        return drawn, learned

    def ratio_mode(self) -> RatioMode:
        owner = self.owner.get(Knob.RATIO)
        return owner.ratio_mode() if owner else "cross"

    def allow(self, turn: TurnContext, action: str | None) -> Allowed:
        owner = self.owner.get(Knob.ACTIONS)
        return owner.allow(turn, action) if isinstance(owner, Constraint) else PASS

    def adapters(self) -> list[AdapterSpec]:
        return [spec for i in self.interventions for spec in i.adapters()]

    def gates(self, episode: Episode) -> Gates | Sequence[Gates]:
        owner = self.owner.get(Knob.GATES)
        return owner.gates(episode) if owner else Gates()

    def edits(self, phase: Phase) -> list[ActivationEdit]:
        """The edits of the phase's owner; edits by an intervention that does not own the phase are an error."""
        for i in self.interventions:
            if _PHASES[phase] not in i.owns and i.edits(phase):
                raise InterventionError(
                    f"arm {self.name!r}: {type(i).__name__} returns edits for {phase!r} but does not list "
                    f"Knob.{_PHASES[phase].name} in `owns`"
                )
        owner = self.owner.get(_PHASES[phase])
        return list(owner.edits(phase)) if owner else []

    def state_dict(self) -> dict[str, Mapping[str, Any]]:
        """What a checkpoint must hold: the state of every intervention that keeps one, by position and class."""
        states = {f"{n}.{type(i).__name__}": i.state_dict() for n, i in enumerate(self.interventions)}
        return {key: state for key, state in states.items() if state}

    def load_state_dict(self, states: Mapping[str, Mapping[str, Any]]) -> None:
        keys = [f"{n}.{type(i).__name__}" for n, i in enumerate(self.interventions)]
        if unknown := sorted(set(states) - set(keys)):
            raise InterventionError(f"arm {self.name!r}: the checkpoint holds state for {unknown}; it has {keys}")
        for key, intervention in zip(keys, self.interventions, strict=True):
            intervention.load_state_dict(states.get(key, {}))


def compose(name: str, interventions: Sequence[Intervention]) -> Arm:
    """Build an arm. Raises `InterventionError` if two interventions own one knob or one breaks its contract."""
    owner: dict[Knob, Intervention] = {}
    for intervention in interventions:
        _check_contract(name, intervention)
        for knob in sorted(intervention.owns):
            if knob in owner:
                raise InterventionError(
                    f"arm {name!r}: {type(owner[knob]).__name__} and {type(intervention).__name__} both own the knob "
                    f"{knob.value!r}; an arm can have one owner per knob: remove one of them"
                )
            owner[knob] = intervention
    return Arm(name, tuple(interventions), owner)


def _check_contract(arm: str, intervention: Intervention) -> None:
    """Every exclusive hook that is overridden must be declared in `owns`: otherwise it would silently not be called."""
    kind = type(intervention)
    if isinstance(intervention, Shaper) == isinstance(intervention, Constraint):
        raise InterventionError(f"arm {arm!r}: {kind.__name__} must subclass either Shaper or Constraint")
    if not isinstance(kind.owns, frozenset) or not all(isinstance(knob, Knob) for knob in kind.owns):
        raise InterventionError(f"arm {arm!r}: {kind.__name__}.owns must be a frozenset of Knob, not {kind.owns!r}")
    base = Constraint if isinstance(intervention, Constraint) else Shaper
    for hook, knobs in _HOOKS.items():
        overridden = getattr(kind, hook, None) is not getattr(base, hook, None)
        if overridden and not hasattr(base, hook):
            raise InterventionError(f"arm {arm!r}: {kind.__name__} is a Shaper and may not define {hook}()")
        if overridden and not kind.owns.intersection(knobs):
            needed = " or ".join(f"Knob.{knob.name}" for knob in knobs)
            raise InterventionError(
                f"arm {arm!r}: {kind.__name__} overrides {hook}() but does not list {needed} in `owns`"
            )
    if isinstance(intervention, Shaper) and hasattr(kind, "cost"):
        raise InterventionError(f"arm {arm!r}: {kind.__name__} is a Shaper and may not define cost()")
