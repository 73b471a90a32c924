"""The check of interventions: one that breaks a rule fails that rule, by name, and no other. Good ones keep all."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from envs.core import normalise
from envs.episode import Context, Episode
from shaping.audits.training.order import describe_order
from shaping.constraints import ActionMask
from shaping.contract.interventions import RULES, Verdict, check_intervention
from shaping.hooks import ActionDecision, Credit, Gates, Group, GroupInfo, Knob, LossTerm, RatioMode, TurnContext
from shaping.intervention import Constraint, Intervention, Shaper
from shaping.shapers import GradientRouting, Identity


def checked(kind: type[Intervention]) -> Verdict:
    return check_intervention(kind, worlds=("steward",))


def ones(group: Group) -> tuple[np.ndarray, ...]:
    return tuple(np.ones(len(episode.tokens), np.float32) for episode in group.episodes)


class MisspeltHook(Shaper):
    def sampling_contxt(self, info: GroupInfo, rng: np.random.Generator) -> Context:
        return Context("never called", "never")


class OwnRandomness(Shaper):
    owns: ClassVar[frozenset[Knob]] = frozenset({Knob.SAMPLING_CONTEXT})

    def sampling_context(self, info: GroupInfo, rng: np.random.Generator) -> Context:
        return Context(f"number {np.random.default_rng().random()}", "drawn")


class NoRatio(Shaper):
    owns: ClassVar[frozenset[Knob]] = frozenset({Knob.TRAINING_CONTEXT})

    def training_context(self, info: GroupInfo, drawn: Context, rng: np.random.Generator) -> Context:
        return Context("another one", "other")


class UnknownRatio(Shaper):
    owns: ClassVar[frozenset[Knob]] = frozenset({Knob.RATIO})

    def ratio_mode(self) -> RatioMode:
        return "cross"  # type: ignore[return-value]


class LateMask(Constraint):
    owns: ClassVar[frozenset[Knob]] = frozenset({Knob.ACTIONS})

    def allow(self, turn: TurnContext, action: str | None) -> ActionDecision:
        return ActionDecision("mask", commands=turn.overt_shortcuts)


class ShortCredit(Shaper):
    def credit(self, group: Group) -> Credit:
        return Credit("short", advantage=tuple(values[1:] for values in ones(group)))


class Peeks(Shaper):
    def credit(self, group: Group) -> Credit:
        lies = [sum(labels.deception for labels in episode.truth.open()) for episode in group.episodes]
        return Credit("peeks", advantage=tuple(-n * values for n, values in zip(lies, ones(group), strict=True)))


class CostOfEpisodes(Constraint):
    def cost(self, episode: Episode) -> Any:
        return np.array([float(len(episode.turns))])


class TooFewGates(Shaper):
    owns: ClassVar[frozenset[Knob]] = frozenset({Knob.GATES})

    def gates(self, episode: Episode) -> Sequence[Gates]:
        return [Gates()] * (len(episode.turns) - 1)


class OneReading(Shaper):
    def readings(self, episode: Episode) -> Mapping[str, Any]:
        return {"turns": np.array([len(episode.turns)])}


class Moody(Shaper):
    def credit(self, group: Group) -> Credit:
        return Credit("moody", advantage=tuple(values * np.random.default_rng().normal() for values in ones(group)))


class Writes(Shaper):
    def credit(self, group: Group) -> None:
        group.returns[:] = 0.0


class Forgets(Shaper):
    def state_dict(self) -> Mapping[str, Any]:
        return {"id": id(self)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        pass


class Infinite(Shaper):
    def auxiliary_loss(self, policy: Any, batch: Sequence[Any]) -> LossTerm:
        weight = next(policy.model.parameters())
        return LossTerm("infinite", (weight.sum() * torch.inf) * 0.0)


BROKEN: dict[type[Intervention], tuple[str, str]] = {
    MisspeltHook: ("composes", "did you mean sampling_context()"),
    OwnRandomness: ("contexts", "draw from `rng` only"),
    NoRatio: ("contexts", "define ratio_mode()"),
    UnknownRatio: ("parts", "ratio_mode() is 'cross'"),
    LateMask: ("actions", "answers 'mask'; possible there: pass, replace, resample"),
    ShortCredit: ("credit", "finite numbers, one per token"),
    Peeks: ("credit", "ground-truth labels are sealed"),
    CostOfEpisodes: ("cost", "return a finite number for each of"),
    TooFewGates: ("gates", "gates for an episode of"),
    OneReading: ("readings", "'turns' is array"),
    Moody: ("pure", "credit() gave two answers about the same"),
    Writes: ("read_only", "credit() changed what it was shown"),
    Forgets: ("state", "a copy that loads"),
    Infinite: ("learns", "both must be finite"),
}


@pytest.mark.parametrize("kind", [Identity, ActionMask, GradientRouting])
def test_a_good_plug_in_has_one_result_per_rule_and_keeps_the_order(kind: type[Intervention]) -> None:
    verdict = checked(kind)
    told = {each.rule: each.detail for each in verdict.results if each.ok}
    assert list(told) == list(RULES) and re.fullmatch(r"\w+\(\) [\d.e-]+ ms(, .*)?", told.pop("time"))
    assert set(told.values()) == {"ok"}
    assert verdict.order.pairs > 0 and verdict.order.violated == 0


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_rule_is_named_and_is_the_only_one(kind: type[Intervention]) -> None:
    rule, detail = BROKEN[kind]
    (failed,) = [each for each in checked(kind).results if not each.ok]
    assert failed.rule == rule
    assert detail in failed.detail


class PricesOvertActions(Shaper):
    """A penalty in the guise of a shaper."""

    def credit(self, group: Group) -> Credit:
        prices = []
        for episode, values in zip(group.episodes, ones(group), strict=True):
            overt = [normalise(turn.executed) in turn.overt_shortcuts for turn in episode.turns]
            prices.append(-3.0 * sum(overt) * values)
        return Credit("price", advantage=tuple(prices))


def test_a_shaper_that_prices_overt_actions_counts_as_motivation_but_does_not_keep_the_order() -> None:
    verdict = checked(PricesOvertActions)
    assert verdict.family == "motivation" and all(each.ok for each in verdict.results)
    assert verdict.order.violated > 0
    assert "not reward-order preserving: inverts" in describe_order(verdict.order.share)


def test_the_order_in_words() -> None:
    assert describe_order(None) == ""
    assert describe_order(0.0) == "reward-order preserving"
    assert describe_order(0.004) == "not reward-order preserving: inverts < 1 % of pairs"
    assert describe_order(0.256) == "not reward-order preserving: inverts 26 % of pairs"
