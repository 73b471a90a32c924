"""An arm: a set of interventions, checked for conflicts, with one method per hook."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np

from envs.calls import call
from envs.episode import Context, Episode
from envs.text import valid_tree
from shaping.hook_names import misspelt_hook
from shaping.hooks import (
    PASS,
    ActionDecision,
    ActivationEdit,
    AdapterSpec,
    Capture,
    Gates,
    GroupInfo,
    InterventionError,
    Knob,
    Phase,
    Prefill,
    RatioMode,
    TurnContext,
    UpdateReport,
)
from shaping.intervention import Constraint, Intervention, Shaper

#: Exclusive hooks: to override one, an intervention must own (one of) these knobs.
_HOOKS: dict[str, tuple[Knob, ...]] = {
    "sampling_context": (Knob.SAMPLING_CONTEXT,),
    "training_context": (Knob.TRAINING_CONTEXT,),
    "episode_context": (Knob.EPISODE_CONTEXT,),
    "edits": (Knob.SAMPLING_EDITS, Knob.TRAINING_EDITS),
    "ratio_mode": (Knob.RATIO,),
    "gates": (Knob.GATES,),
    "allow": (Knob.ACTIONS,),
    "prefill": (Knob.PREFILL,),
}
#: Names that hooks had in earlier versions.
_RENAMED = {"acting_context": "sampling_context", "learning_context": "training_context"}
_PHASES: dict[Phase, Knob] = {"sampling": Knob.SAMPLING_EDITS, "training": Knob.TRAINING_EDITS}


@dataclass(frozen=True)
class Arm:
    """A named set of interventions, checked for conflicts, with one method per hook (see `compose`)."""

    name: str
    interventions: tuple[Intervention, ...] = ()
    owner: Mapping[Knob, Intervention] = field(default_factory=dict)
    ratio: RatioMode | None = None
    """Ratio mode that a study sets for all its arms; None: what the owner of the knob says, or `sampler`."""

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
        """Does one of them know what no overseer outside of a simulation knows?"""
        return any(i.knows_truth for i in self.interventions)

    def contexts(self, info: GroupInfo, rng: np.random.Generator) -> tuple[Context, Context]:
        """One draw of (c_s, c_t) for a group. If they differ, some intervention must have set the ratio mode."""
        sampling = self.owner.get(Knob.SAMPLING_CONTEXT)
        drawn = _asked(sampling, "sampling_context", Context, info, rng) if sampling else Context()
        training = self.owner.get(Knob.TRAINING_CONTEXT)
        learned = _asked(training, "training_context", Context, info, drawn, rng) if training else drawn
        if learned != drawn and not self.names_ratio:
            raise InterventionError(
                f"arm {self.name!r}: episodes are sampled under {drawn.name!r} but learned under {learned.name!r}, and "
                "no intervention says what the policy ratio is then; define ratio_mode() and list Knob.RATIO in `owns`"
            )
        return drawn, learned

    def prefills(self, info: GroupInfo, members: int, rng: np.random.Generator) -> tuple[Prefill | None, ...]:
        """What opens the completions of each member of a group; empty if nothing does for any."""
        owner = self.owner.get(Knob.PREFILL)
        if owner is None:
            return ()
        answer = call(InterventionError, owner, "prefill", info, members, rng)
        each = [answer] * members if answer is None or isinstance(answer, Prefill) else answer
        if not isinstance(each, (list, tuple)) or not all(one is None or isinstance(one, Prefill) for one in each):
            raise InterventionError(
                f"{type(owner).__name__}.prefill() returned {_short(answer)}; return Prefill, a list of them, or None"
            )
        if len(each) != members:
            raise InterventionError(
                f"{type(owner).__name__}.prefill() returned {len(each)} for a group of {members}; one for each member"
            )
        if not self.names_ratio and any(one is not None and one.loss == "stripped" for one in each):
            raise InterventionError(
                f"arm {self.name!r}: {type(owner).__name__} has turns learned without the text that opens them, and "
                "no intervention says what the policy ratio is then; define ratio_mode() and list Knob.RATIO in `owns`"
            )
        return tuple(each) if any(one is not None for one in each) else ()

    def episode_context(self, episode: Episode) -> Context:
        """The context that a finished episode is learned under."""
        owner = self.owner.get(Knob.EPISODE_CONTEXT)
        own = None
        if owner is not None:
            own = call(
                InterventionError, owner, "episode_context", episode if owner.reads_truth else episode.redacted()
            )
        if own is not None and not isinstance(own, Context):
            raise InterventionError(
                f"{type(owner).__name__}.episode_context() returned {_short(own)}; return Context, or None"
            )
        return episode.contexts.training if own is None else own

    @property
    def looks(self) -> bool:
        """Does an intervention look at the policy between updates?"""
        return any(type(i).refresh is not Intervention.refresh for i in self.interventions)

    @property
    def names_ratio(self) -> bool:
        """Does the study or an intervention say what the policy ratio is where training differs from sampling?"""
        return self.ratio is not None or Knob.RATIO in self.owner

    def ratio_mode(self) -> RatioMode:
        """Raises `InterventionError` if the owner's answer is no mode: it would train like one of them, unnoticed."""
        if self.ratio is not None:
            return self.ratio
        owner = self.owner.get(Knob.RATIO)
        mode: RatioMode = _asked(owner, "ratio_mode", str) if owner else "sampler"
        if mode not in get_args(RatioMode):
            raise InterventionError(
                f"arm {self.name!r}: {type(owner).__name__}.ratio_mode() is {mode!r}; choose one of "
                f"{', '.join(get_args(RatioMode))}"
            )
        return mode

    def of(self, seat: str) -> Arm:
        """The interventions of one seat, in a world with several (`shaping.seated_arm`); here all seats have all."""
        return self

    def allow(self, turn: TurnContext, action: str | None) -> ActionDecision:
        owner = self.owner.get(Knob.ACTIONS)
        if not isinstance(owner, Constraint):
            return PASS
        decision: ActionDecision = _asked(owner, "allow", ActionDecision, turn, action)
        return decision

    def adapters(self) -> list[AdapterSpec]:
        return [spec for i in self.interventions for spec in asked_all(i, "adapters", AdapterSpec)]

    def gates(self, episode: Episode) -> Gates | Sequence[Gates]:
        owner = self.owner.get(Knob.GATES)
        if owner is None:
            return Gates()
        answer: Gates | Sequence[Gates] = call(InterventionError, owner, "gates", episode)
        if isinstance(answer, Gates):
            return answer
        if not isinstance(answer, (list, tuple)) or not all(isinstance(gate, Gates) for gate in answer):
            raise InterventionError(
                f"{type(owner).__name__}.gates() returned {_short(answer)}; return one Gates, or one per turn"
            )
        return tuple(answer)

    def edits(self, phase: Phase) -> list[ActivationEdit]:
        """The edits of the phase's owner; edits by an intervention that does not own the phase are an error."""
        for i in self.interventions:
            if _PHASES[phase] not in i.owns and asked_all(i, "edits", ActivationEdit, phase):
                raise InterventionError(
                    f"arm {self.name!r}: {type(i).__name__} returns edits for {phase!r} but does not list "
                    f"Knob.{_PHASES[phase].name} in `owns`"
                )
        owner = self.owner.get(_PHASES[phase])
        return asked_all(owner, "edits", ActivationEdit, phase) if owner else []

    def captures(self, phase: Phase) -> list[Capture]:
        """The hidden states that interventions want to see in a phase."""
        return captures_of(self.interventions, phase)

    def concerns(self, intervention: Intervention, episode: Episode) -> bool:
        """Is an intervention of the arm about an episode? Those of a single seat are about no other."""
        return True

    def after_update(self, report: UpdateReport) -> None:
        """Let every intervention adapt its state. `report` holds the truth; only those that read it are shown it."""
        for i in self.interventions:
            if type(i).after_update is not Intervention.after_update:
                call(InterventionError, i, "after_update", report if i.reads_truth else report.redacted())

    def state_dict(self) -> dict[str, Mapping[str, Any]]:
        """What a checkpoint must hold: the state of every intervention that keeps one, by position and class."""
        states = {
            f"{n}.{type(i).__name__}": valid_tree(_asked(i, "state_dict", Mapping))
            for n, i in enumerate(self.interventions)
        }
        return {key: state for key, state in states.items() if state}

    def load_state_dict(self, states: Mapping[str, Mapping[str, Any]]) -> None:
        keys = [f"{n}.{type(i).__name__}" for n, i in enumerate(self.interventions)]
        if unknown := sorted(set(states) - set(keys)):
            raise InterventionError(f"arm {self.name!r}: the checkpoint holds state for {unknown}; it has {keys}")
        for key, intervention in zip(keys, self.interventions, strict=True):
            call(InterventionError, intervention, "load_state_dict", copy.deepcopy(states.get(key, {})))


def compose(name: str, interventions: Sequence[Intervention], *, ratio: RatioMode | None = None) -> Arm:
    """Build an arm; `ratio` overrides its own ratio mode.

    Raises `InterventionError` if two interventions own one knob or one breaks its contract.
    """
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
    arm = Arm(name, tuple(interventions), owner, ratio)
    if _swaps(owner.get(Knob.EPISODE_CONTEXT)) and (not arm.names_ratio or arm.ratio_mode() == "sampler"):
        raise InterventionError(
            f"arm {name!r}: {type(owner[Knob.EPISODE_CONTEXT]).__name__} learns episodes of one group under several "
            "contexts, of which the sampler knows one: set the ratio mode to recomputed or none (learner.ratio, or "
            "ratio_mode() with Knob.RATIO in `owns`)"
        )
    return arm


def _swaps(owner: Intervention | None) -> bool:
    """Does the owner of the knob answer the hook, and not leave it as it is?"""
    return owner is not None and type(owner).episode_context is not Intervention.episode_context


def _check_contract(arm: str, intervention: Intervention) -> None:
    """Refuse hooks that would never be called: misspelt ones, and exclusive ones that `owns` does not declare."""
    kind = type(intervention)
    if isinstance(intervention, Shaper) == isinstance(intervention, Constraint):
        raise InterventionError(f"arm {arm!r}: {kind.__name__} must subclass either Shaper or Constraint")
    if not isinstance(kind.owns, frozenset) or not all(isinstance(knob, Knob) for knob in kind.owns):
        raise InterventionError(f"arm {arm!r}: {kind.__name__}.owns must be a frozenset of Knob, not {kind.owns!r}")
    if fault := misspelt_hook(kind, Shaper, Constraint, renamed=_RENAMED):
        raise InterventionError(f"arm {arm!r}: {fault}")
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
    for hook in ("cost", "cost_group", "screen"):
        if isinstance(intervention, Shaper) and hasattr(kind, hook):
            raise InterventionError(f"arm {arm!r}: {kind.__name__} is a Shaper and may not define {hook}()")


def _asked(plugin: Intervention, hook: str, kind: type, *arguments: Any) -> Any:
    """A hook's answer, which must be of this kind."""
    answer = call(InterventionError, plugin, hook, *arguments)
    if not isinstance(answer, kind):
        raise InterventionError(
            f"{type(plugin).__name__}.{hook}() returned {_short(answer)}; it must return {kind.__name__}"
        )
    return answer


def asked_all(plugin: Any, hook: str, kind: type, *arguments: Any) -> list[Any]:
    """The answers of a hook that returns several, each of this kind. Raises `InterventionError`."""
    answers = call(InterventionError, plugin, hook, *arguments)
    if not isinstance(answers, (list, tuple)) or not all(isinstance(answer, kind) for answer in answers):
        raise InterventionError(
            f"{type(plugin).__name__}.{hook}() returned {_short(answers)}; it must return a list of {kind.__name__}"
        )
    return list(answers)


def captures_of(plugins: Sequence[Any], phase: Phase) -> list[Capture]:
    """The captures of interventions and monitors in a phase, each name once.

    Raises `InterventionError` if two plug-ins ask for different states under one name.
    """
    found: dict[str, tuple[Capture, str]] = {}
    for plugin in plugins:
        for capture in asked_all(plugin, "captures", Capture):
            if capture.phase != phase:
                continue
            known, first = found.setdefault(capture.name, (capture, type(plugin).__name__))
            if known != capture:
                raise InterventionError(
                    f"{first} and {type(plugin).__name__} capture different states under the name {capture.name!r}: "
                    "rename one"
                )
    return [capture for capture, _ in found.values()]


def _short(answer: Any) -> str:
    text = repr(answer)
    return text if len(text) <= 80 else f"{text[:80]}..."
