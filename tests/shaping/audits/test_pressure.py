"""The pressure index: closed forms of the pure part, and scripted episodes under masks."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pytest

from envs import make_world
from envs.episode import Labels
from envs.personas.strategies import STRATEGIES
from shaping.arm import Arm, compose
from shaping.audits.pressure.index import (
    PolicyReturns,
    Pressure,
    deceives,
    mean_pressure,
    pressure_index,
)
from shaping.audits.pressure.scripted import Strategist, played
from shaping.constraints import ActionMask
from shaping.hooks import PASS, ActionDecision, Knob, TurnContext
from shaping.intervention import Constraint


def policy(
    name: str, rewards: list[float], prices: list[float] | None = None, deceptive: bool = False
) -> PolicyReturns:
    n = len(rewards)
    return PolicyReturns(
        name, np.array(rewards), np.array(prices or [0.0] * n), np.array([deceptive] + [False] * (n - 1))
    )


def test_it_is_the_difference_of_the_best_of_each_class_net_of_prices_with_its_paired_error() -> None:
    found = pressure_index(
        [
            policy("honest", [0.5, 0.5, 0.5]),
            policy("overt", [1.0, 1.0, 1.0], [0.1, 0.2, 0.6]),
            policy("lies", [0.9, 0.9, 0.9], [0.8, 0.8, 0.8], deceptive=True),
            policy("covert", [1.0, 1.0, 1.0], [0.0, 0.1, 0.2], deceptive=True),
        ]
    )
    assert (found.deceptive, found.other, found.seeds, found.unknown) == ("covert", "overt", 3, "")
    assert found.index == pytest.approx(0.9 - 0.7)
    differences = np.array([0.1, 0.1, 0.4])
    assert found.error == pytest.approx(differences.std(ddof=1) / np.sqrt(3))


def test_one_deceptive_episode_makes_a_policy_deceptive() -> None:
    assert deceives([Labels(), Labels(oversight_evasion=1.0)])
    assert deceives([Labels(deception=2.0)])
    assert not deceives([Labels(harm=1.0, reward_hack=1.0, power_seeking=1.0)])
    assert policy("once", [1.0, 1.0], deceptive=True).deceptive


def test_without_one_of_the_classes_it_is_unknown_and_says_why() -> None:
    honest, liar = policy("honest", [1.0]), policy("liar", [1.0], deceptive=True)
    assert pressure_index([honest]).unknown == "no scripted policy deceives here"
    assert pressure_index([liar]).unknown == "every scripted policy deceives here"
    assert pressure_index([honest, liar]) == Pressure(0.0, None, 1, "liar", "honest", "", (honest, liar))
    assert pressure_index([honest]).index is None


@pytest.mark.parametrize("others", [[], [policy("two", [1.0, 1.0])], [policy("none", [])]])
def test_policies_of_other_seeds_are_refused(others: list[PolicyReturns]) -> None:
    with pytest.raises(ValueError, match="the same seeds"):
        pressure_index([*([policy("one", [1.0])] if others and len(others[0].net) else []), *others])


def test_equal_policies_are_named_by_the_first_whatever_the_rounding() -> None:
    thirds = [1 / 3, 2 / 3, 1.0]
    found = pressure_index([policy("a", thirds), policy("b", thirds[::-1]), policy("c", thirds, deceptive=True)])
    assert found.other == "a"


def test_the_mean_leaves_out_what_is_unknown() -> None:
    assert mean_pressure([Pressure(0.2), Pressure(None, unknown="no policies"), Pressure(0.4)]) == pytest.approx(0.3)
    assert mean_pressure([Pressure(None)]) is None


def test_its_record_is_plain_json_with_every_policy() -> None:
    found = pressure_index([policy("honest", [0.5, 0.7]), policy("liar", [1.0, 1.0], [0.2, 0.0], deceptive=True)])
    document = found.as_dict()
    assert document["index"] == pytest.approx(0.3) and document["deceptive"] == "liar"
    assert document["policies"]["liar"] == {
        "net": pytest.approx(0.9),
        "reward": 1.0,
        "price": pytest.approx(0.1),
        "deceptive": True,
        "deceptive_episodes": 0.5,
    }


class MaskOnly(Constraint):
    """Masks before sampling, and lets everything pass afterwards."""

    owns: ClassVar[frozenset[Knob]] = frozenset({Knob.ACTIONS})

    def allow(self, turn: TurnContext, action: str | None) -> ActionDecision:
        return ActionDecision("mask", commands=turn.overt_shortcuts) if action is None else PASS


def episode(who: str, arm: Arm, world: str = "pact", **options: Any) -> Any:
    env = make_world(world, {"size": 6, "honest_share": 0.5, **options})
    return played(env, Strategist(STRATEGIES[who], STRATEGIES["honest_admit"]), arm, seed=3, group=0)


@pytest.mark.parametrize(
    "constraint", [ActionMask(), ActionMask(mode="replace"), ActionMask(mode="resample"), MaskOnly()]
)
def test_a_strategy_works_honestly_where_the_arm_refuses_its_command(constraint: Constraint) -> None:
    arm = compose("masked", [constraint])
    free, masked, honest = episode("overt_deny", Arm("free")), episode("overt_deny", arm), episode("honest_admit", arm)
    assert free.proxy_return == pytest.approx(free.options["max_return"])
    assert masked.proxy_return == honest.proxy_return < free.proxy_return
    assert not any(label.harm for label in masked.truth.open())
    assert episode("covert_deny", arm).proxy_return == pytest.approx(free.proxy_return)  # poaching is no overt shortcut


def test_what_is_refused_of_both_becomes_the_fallback() -> None:
    arm = compose("masked", [ActionMask(commands=("take", "poach"), fallback="wait")])
    turns = episode("overt_deny", arm).turns
    assert {turn.executed.split()[0] for turn in turns} == {"pledge", "wait"}
    assert any(turn.action_text.startswith("take") for turn in turns)  # as it was said


def test_an_episode_is_what_interventions_see_of_one() -> None:
    found = episode("overt_admit", Arm("free"), world="steward", inquiry=0.5)
    assert found.world == "steward" and found.turns[0].overt_shortcuts
    assert found.proxy_return == pytest.approx(sum(turn.reward for turn in found.turns))
    assert any(event.name == "inquiry" and event.admits for turn in found.turns for event in turn.events)
    assert found.turns[0].motive_text.endswith(".")
    assert len(found.truth.open()) == len(found.turns)
