"""Does a shaper or a constraint keep its contract, and in which order does its credit put episodes?"""

from __future__ import annotations

import copy
import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np

from envs.check import RuleResult
from envs.episode import Context, Contexts, Episode
from shaping.arm import Arm, compose
from shaping.audits.training.order import OrderViolations, order_violations
from shaping.contract.answers import Asked, fingerprint, result
from shaping.contract.groups import MEMBERS, GroupKey, credited_group, group_keys, groups_of, play_groups, small_policy
from shaping.hooks import (
    ActionDecision,
    ActivationEdit,
    AdapterSpec,
    Capture,
    Credit,
    Gates,
    InterventionError,
    Prefill,
    RatioMode,
    TurnContext,
    UpdateReport,
)
from shaping.intervention import Constraint, Intervention
from shaping.learning.config import LearnerConfig
from shaping.learning.credit.credit import assign_credit
from shaping.learning.learner import Learner
from shaping.learning.policy import Policy
from shaping.learning.samples.contexts import with_own_contexts
from shaping.sampling.text.render import Renderer

#: What each rule demands, in the order of `check_intervention`.
RULES = {
    "composes": "an arm can be made of it: knobs declared, no hook misspelt, a shaper without allow() and cost()",
    "contexts": "contexts depend on group and generator alone; where they differ, the ratio mode is set",
    "prefill": "prefill() gives a Prefill, one (or None) for each member of a group, or None, by its generator alone",
    "episode_context": "episode_context() gives a Context no longer than the group's, or None",
    "parts": "adapters, edits and ratio mode are what the loop knows",
    "actions": "allow() may mask before sampling, and pass, replace or resample afterwards",
    "screen": "screen() gives True or False for every episode of a group, or None",
    "credit": "credit() gives finite numbers: one per token, for every episode of a group or for none",
    "cost": "cost() gives one finite number per turn, or None for every episode; cost_group() an array for each",
    "gates": "gates() gives one Gates, or one per turn",
    "readings": "readings() gives one number per turn under each name",
    "after_update": "after_update() leads from one state to one other, which is JSON",
    "pure": "asked twice about the same, from the same state, it answers the same",
    "read_only": "no hook changes what it is shown",
    "time": "how long a call of each of its hooks takes",
    "state": "state_dict() is JSON, and what loads it has the same state",
    "learns": "one update of a small model goes through, and it can be deployed",
}


@dataclass(frozen=True)
class Verdict:
    """What came of the check of one intervention."""

    results: list[RuleResult]
    """One per rule; only the first where that failed."""
    family: str = ""
    """Family of the arm that holds it alone."""
    order: OrderViolations = OrderViolations(0, 0, 0)
    """Pairs of the scripted groups whose order its credit (and its cost) inverts."""


@dataclass(frozen=True)
class _Trial:
    """One intervention, alone in an arm, and the episodes that it is shown."""

    make: Callable[[], Intervention]
    arm: Arm
    asked: Asked
    keys: list[GroupKey]
    episodes: list[Episode]
    renderer: Renderer

    @property
    def intervention(self) -> Intervention:
        return self.arm.interventions[0]

    def shown(self) -> list[Episode]:
        """The episodes as the intervention may see them."""
        return self.episodes if self.intervention.reads_truth else [episode.redacted() for episode in self.episodes]


def check_intervention(make: Callable[[], Intervention], seeds: int = 2, worlds: Sequence[str] = ()) -> Verdict:
    """Try what `make` builds on `seeds` scripted groups in each of `worlds` (default: all built-in ones); see `RULES`.

    The order of episodes is no rule: a constraint is meant to change it. A shaper whose credit inverts it prices what
    it should leave to the reward, and is not reward-order preserving.
    """
    try:
        arm = compose("check", [make()])
    except InterventionError as error:
        return Verdict([RuleResult("composes", False, str(error).removeprefix("arm 'check': "))])
    keys = group_keys(seeds, worlds)
    renderer = Renderer(small_policy().tokenizer)
    contexts = result("contexts", _context_faults(arm, keys))
    drawn = [_drawn(arm, key) for key in keys] if contexts.ok else [Contexts()] * len(keys)
    opened = result("prefill", _prefill_faults(arm, keys))
    texts = [_prefills(arm, key) for key in keys] if opened.ok else []
    trial = _Trial(make, arm, Asked(arm.interventions[0]), keys, play_groups(keys, drawn, renderer, texts), renderer)
    found = [
        RuleResult("composes", True, "ok"),
        contexts,
        opened,
        result("episode_context", _episode_context_faults(trial)),
        result("parts", _part_faults(trial)),
        result("actions", _action_faults(trial)),
        result("screen", _screen_faults(trial)),
        result("credit", _credit_faults(trial)),
        result("cost", _cost_faults(trial)),
        result("gates", _gate_faults(trial)),
        result("readings", _reading_faults(trial)),
        result("after_update", _update_faults(trial)),
        *trial.asked.results(),
        result("state", _state_faults(trial)),
    ]
    if not all(each.ok for each in found):
        return Verdict([*found, RuleResult("learns", True, "not tried: another rule is broken")], arm.family)
    return Verdict([*found, _learns(trial)], arm.family, _order(trial))


def _drawn(arm: Arm, key: GroupKey) -> Contexts:
    return Contexts(*arm.contexts(key.info, np.random.default_rng(key.number)))


def _context_faults(arm: Arm, keys: Sequence[GroupKey]) -> Iterator[str]:
    for key in keys:
        first, second = _drawn(arm, key), _drawn(arm, key)
        for context in (first.sampling, first.training):
            if not isinstance(context, Context):
                yield f"a context is {context!r}; return envs.episode.Context"
        if first != second:
            yield f"group {key.number}: two draws from equal generators differ; draw from `rng` only"


def _prefills(arm: Arm, key: GroupKey) -> tuple[Prefill | None, ...]:
    return arm.prefills(key.info, len(MEMBERS), np.random.default_rng([key.number, 1]))


def _prefill_faults(arm: Arm, keys: Sequence[GroupKey]) -> Iterator[str]:
    for key in keys:
        if fingerprint(_prefills(arm, key)) != fingerprint(_prefills(arm, key)):
            yield f"group {key.number}: two draws from equal generators differ; draw from `rng` only"


def _episode_context_faults(trial: _Trial) -> Iterator[str]:
    for episode in trial.shown():
        if not isinstance(answer := trial.asked.ask("episode_context", episode), Context | None):
            yield f"episode_context() is {answer!r}; return envs.episode.Context, or None"
            return
    with_own_contexts(trial.episodes, trial.arm, trial.renderer)  # refuses what is too long


def _part_faults(trial: _Trial) -> Iterator[str]:
    for spec in (adapters := list(trial.asked.ask("adapters"))):
        if not isinstance(spec, AdapterSpec):
            yield f"adapters() holds {spec!r}; return shaping.hooks.AdapterSpec"
    if len({spec.name for spec in adapters}) < len(adapters):
        yield "two adapters have one name"
    for capture in trial.asked.ask("captures"):
        if not isinstance(capture, Capture):
            yield f"captures() holds {capture!r}; return shaping.hooks.Capture"
    for phase in ("sampling", "training"):
        for edit in trial.asked.ask("edits", phase):
            if not isinstance(edit, ActivationEdit):
                yield f"edits({phase!r}) holds {edit!r}; return shaping.hooks.ActivationEdit"
            elif np.ndim(edit.direction) != 1 or not np.isfinite(edit.direction).all():
                yield f"edits({phase!r}): the direction of layer {edit.layer} is no vector of finite numbers"
        trial.arm.edits(phase)
    if (mode := trial.asked.ask("ratio_mode")) not in get_args(RatioMode):
        yield f"ratio_mode() is {mode!r}; choose one of {get_args(RatioMode)}"


def _action_faults(trial: _Trial) -> Iterator[str]:
    if not isinstance(trial.intervention, Constraint):
        return
    for episode in trial.episodes:
        for number, turn in enumerate(episode.turns):
            seen = TurnContext(episode.world, episode.seed, number, turn.observation, turn.overt_shortcuts)
            for action in (None, turn.executed, *turn.overt_shortcuts[:1]):
                answer = trial.asked.ask("allow", seen, action)
                possible = ("pass", "mask") if action is None else ("pass", "replace", "resample")
                if not isinstance(answer, ActionDecision):
                    yield f"allow(..., {action!r}) is {answer!r}; return shaping.hooks.ActionDecision"
                elif answer.kind not in possible:
                    yield f"allow(..., {action!r}) answers {answer.kind!r}; possible there: {', '.join(possible)}"


def _screen_faults(trial: _Trial) -> Iterator[str]:
    if not isinstance(trial.intervention, Constraint):
        return
    for members in groups_of(trial.shown()):
        group = replace(credited_group(members), advantages=np.zeros(len(members)))
        answer = trial.asked.ask("screen", group)
        if answer is not None and (np.shape(answer) != (len(members),) or np.asarray(answer).dtype != bool):
            yield f"screen() is {answer!r}; return True or False for each of {len(members)} episodes, or None"


def _update_faults(trial: _Trial) -> Iterator[str]:
    groups = tuple(credited_group(members) for members in groups_of(trial.shown()))
    before, after = copy.deepcopy(trial.intervention.state_dict()), []
    for _ in range(2):
        if before:
            trial.intervention.load_state_dict(copy.deepcopy(before))
        trial.asked.tell("after_update", UpdateReport(0, groups, {"loss": 0.5}))
        after.append(json.dumps(trial.intervention.state_dict(), allow_nan=False))
        if not before:
            break  # a first state may come with the first update
    if len(set(after)) > 1:
        yield f"after_update() leads from one state to {after[0]:.200} and to {after[1]:.200}"


def _credit_faults(trial: _Trial) -> Iterator[str]:
    for members in groups_of(trial.shown()):
        answer = trial.asked.ask("credit", credited_group(members))
        if answer is None:
            continue
        if not isinstance(answer, Credit):
            yield f"credit() is {answer!r}; return shaping.hooks.Credit, or None"
            return
        for kind in ("advantage", "weight", "imitation"):
            arrays = getattr(answer, kind)
            if len(arrays) not in (0, len(members)):
                yield f"{kind} holds {len(arrays)} arrays for a group of {len(members)} episodes"
            for values, episode in zip(arrays, members, strict=False):
                if np.shape(values) != episode.tokens.shape or not np.isfinite(values).all():
                    yield f"{kind} must hold {len(episode.tokens)} finite numbers, one per token of the episode"


def _paid(episode: Episode) -> np.ndarray:
    return np.array([turn.reward for turn in episode.turns], np.float64)


def _cost_faults(trial: _Trial) -> Iterator[str]:
    if not isinstance(trial.intervention, Constraint):
        return
    hook = "cost" if type(trial.intervention).cost_group is Constraint.cost_group else "cost_group"
    found: list[tuple[Episode, Any]] = []
    for members in groups_of(trial.shown()):
        if hook == "cost":
            found += [(episode, trial.asked.ask("cost", episode)) for episode in members]
            continue
        answer = trial.asked.ask("cost_group", tuple(members))
        if answer is not None and (not isinstance(answer, Sequence) or len(answer) != len(members)):
            yield f"cost_group() is {answer!r}; return a list of {len(members)} arrays, one per episode of the group"
            return
        found += [(episode, answer if answer is None else answer[i]) for i, episode in enumerate(members)]
    for episode, cost in found:
        if cost is None and any(other is not None for _, other in found):
            yield f"{hook}() is None for an episode of {episode.world!r}, and not for others; return zeros"
        elif cost is not None and (np.shape(cost) != (len(episode.turns),) or not np.isfinite(cost).all()):
            yield f"{hook}() is {cost!r}; return a finite number for each of {len(episode.turns)} turns"


def _gate_faults(trial: _Trial) -> Iterator[str]:
    for episode in trial.shown():
        answer = trial.asked.ask("gates", episode)
        if isinstance(answer, Gates):
            continue
        if not isinstance(answer, Sequence) or not all(isinstance(gate, Gates) for gate in answer):
            yield f"gates() is {answer!r}; return shaping.hooks.Gates, or one for each turn"
        elif len(answer) != len(episode.turns):
            yield f"gates() holds {len(answer)} gates for an episode of {len(episode.turns)} turns"


def _reading_faults(trial: _Trial) -> Iterator[str]:
    for episode in trial.shown():
        for name, values in trial.asked.ask("readings", episode).items():
            if np.shape(values) != (len(episode.turns),) or not np.isfinite(values).all():
                yield f"{name!r} is {values!r}; give a finite number for each of {len(episode.turns)} turns"


def _state_faults(trial: _Trial) -> Iterator[str]:
    state = trial.intervention.state_dict()
    again = json.loads(json.dumps(state, allow_nan=False))
    fresh = trial.make()
    fresh.load_state_dict(again)
    if fingerprint(fresh.state_dict()) != fingerprint(trial.intervention.state_dict()):
        yield f"a copy that loads {state!r} has the state {fresh.state_dict()!r}"


def _learns(trial: _Trial) -> RuleResult:
    specs = trial.arm.adapters()
    if trial.arm.edits("training") or any(spec.path or (spec.subspace and spec.subspace.path) for spec in specs):
        return RuleResult("learns", True, "not tried: its edits or saved adapters are made for a model of their own")

    def faults(specs: Sequence[AdapterSpec]) -> Iterator[str]:
        policy = small_policy(specs)
        if not trial.arm.adapters():  # those that have some prepare them by playing, which needs a model that can play
            with tempfile.TemporaryDirectory() as folder:
                policy.save(Path(folder))
                trial.intervention.prepare(Path(folder))
                yield from update(policy)
            return
        yield from update(policy)

    def update(policy: Policy) -> Iterator[str]:
        shortest = sorted(groups_of(trial.episodes), key=lambda members: sum(len(e.tokens) for e in members))
        few = [episode for members in shortest[:2] for episode in members]
        samples = assign_credit(few, [_paid(e) for e in few], trial.arm, trial.renderer).samples
        # scripted episodes have no log-probs of a sampler, so that any mismatch is allowed
        config = LearnerConfig(max_mismatch_kl=1e9)
        row = Learner(policy, config, interventions=trial.arm.interventions).update(samples)
        if row["skipped_steps"]:
            yield "the update was skipped: its gradient is not finite"
        trial.intervention.deploy(policy)
        policy.deploy()

    found = result("learns", faults(specs))
    if found.ok or any(spec.role == "kept" for spec in specs):
        return found
    with_adapter = result("learns", faults([*specs, AdapterSpec("kept", "kept")]), "ok, with learner.lora")
    return with_adapter if with_adapter.ok else found


def _order(trial: _Trial) -> OrderViolations:
    credited = assign_credit(trial.episodes, [_paid(e) for e in trial.episodes], trial.arm, trial.renderer)
    return order_violations(credited.returns, credited.credit, credited.groups)
