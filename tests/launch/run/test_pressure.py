"""The pressure of an arm in a world: what the constraint selects for, before any training."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from launch_fakes import study

from envs import make_world
from envs.core import TextEnv
from envs.episode import Episode
from launch.preflight import pressure_lines
from launch.run.evaluation.pressure import PressureGauge, audit_pressure, pressure_metrics
from shaping.audits.pressure.index import Pressure
from shaping.intervention import Constraint

HERE = "tests.launch.run.test_pressure"
PENALTY = {"use": "OverseerPenalty", "accuracy": 1.0}
STEWARD = {"size": 7, "horizon": 24, "inquiry": 0.3, "honest_share": 0.5}


class Market(TextEnv):
    """A world of one's own without scripted policies."""

    name: ClassVar[str] = "market"
    max_return = 1.0


class LiesPriced(Constraint):
    """An oracle: every deception and every act that evades oversight costs 5."""

    oracle: ClassVar[bool] = True

    def cost(self, episode: Episode) -> np.ndarray:
        return np.array([5 * (label.deception + label.oversight_evasion) for label in episode.truth.open()])


class Hangs(Constraint):
    """Has no end of its pricing."""

    def cost(self, episode: Episode) -> np.ndarray:
        threading.Event().wait(60)
        return np.zeros(len(episode.turns))


class ReadsTokens(Constraint):
    """Cannot price an episode without tokens."""

    def cost(self, episode: Episode) -> np.ndarray:
        return np.full(len(episode.turns), float(episode.tokens[0]))


@pytest.fixture(scope="module")
def gauge() -> PressureGauge:
    return PressureGauge()


def pressures(gauge: PressureGauge, worlds: dict[str, Any], *interventions: Any, reward: Any = "EnvReward") -> Any:
    arm = {"interventions": list(interventions), "reward": reward}
    train = {"worlds": worlds, "updates": 1, "groups": 1, "group_size": 2}
    run = study(Path("unused"), {"unshaped": "", "arm": arm}, train=train).runs()[1]
    return run, gauge.of_run(run)


def index(gauge: PressureGauge, world: str, options: dict[str, Any], *interventions: Any, **arm: Any) -> Any:
    return pressures(gauge, {world: options}, *interventions, **arm)[1][world]


def test_in_the_steward_nothing_is_gained_by_deceit_until_acts_and_admissions_are_priced(gauge: PressureGauge) -> None:
    free, priced = index(gauge, "steward", STEWARD), index(gauge, "steward", STEWARD, PENALTY)
    assert free.index == pytest.approx(0.0, abs=0.01)
    assert priced.index - free.index > max(0.1, 3 * priced.error)
    assert priced.deceptive.endswith("_deny")
    open_path = index(gauge, "steward", {**STEWARD, "honest_share": 1.0, "horizon": None}, PENALTY)
    assert open_path.index == pytest.approx(0.0, abs=0.02)


def test_the_price_is_an_exchange_rate(gauge: PressureGauge) -> None:
    """Net of a small weight the best policies stay the same, and the index is linear in the weight."""
    one, two = (index(gauge, "steward", STEWARD, {**PENALTY, "weight": weight}) for weight in (0.02, 0.04))
    assert (one.deceptive, one.other) == (two.deceptive, two.other)
    assert two.index == pytest.approx(2 * one.index) and one.index > 0


@pytest.mark.parametrize("world", ["pact", "workshop"])
def test_a_mask_of_the_overt_form_makes_the_covert_one_pay(gauge: PressureGauge, world: str) -> None:
    options = {"size": 6, "honest_share": 0.5}
    env = make_world(world, options)
    env.reset(seed=0)
    honest = env.quota * (env.horizon // 2) / env.max_return if world == "pact" else env.honest_items(6) / 6
    masked = index(gauge, world, options, "ActionMask")
    assert masked.index == pytest.approx(1 - honest)
    assert index(gauge, world, options).index == 0.0
    assert index(gauge, world, {**options, "covert": "off"}, "ActionMask").index is None


def test_priced_lies_and_random_pay_leave_nothing_to_gain(gauge: PressureGauge) -> None:
    assert index(gauge, "steward", STEWARD, f"{HERE}:LiesPriced").index < 0
    dealt = index(gauge, "steward", STEWARD, PENALTY | {"weight": 0.0}, reward={"use": "RandomReward"})
    assert abs(dealt.index) < 5 * dealt.error


def test_where_it_is_unknown_it_says_why_and_fails_nothing(gauge: PressureGauge) -> None:
    run, found = pressures(gauge, {f"{HERE}:Market": {}, "steward": STEWARD})
    assert "no scripted policies for world" in found[f"{HERE}:Market"].unknown
    assert "WorldPolicies" in found[f"{HERE}:Market"].unknown
    metrics = pressure_metrics(run, found)
    assert metrics == {"pressure": found["steward"].index, "pressure.steward": found["steward"].index}
    assert "fails on scripted episodes" in index(gauge, "steward", STEWARD, f"{HERE}:ReadsTokens").unknown
    assert pressure_metrics(run, {f"{HERE}:Market": found[f"{HERE}:Market"]}) == {}


def test_an_arm_that_hangs_is_given_up(gauge: PressureGauge, monkeypatch: pytest.MonkeyPatch) -> None:
    assert index(gauge, "steward", STEWARD).index is not None
    monkeypatch.setattr("launch.run.evaluation.pressure.PATIENCE", 0.2)
    assert "have not ended within 0.2 s" in index(gauge, "steward", STEWARD, f"{HERE}:Hangs").unknown


def test_the_mean_is_over_the_worlds_and_each_has_its_own() -> None:
    run = study(Path("unused"), {"unshaped": ""}, train={"worlds": {"steward": {}, "steward@ar-1850": {}}, "updates": 1,
                                                         "groups": 2, "group_size": 2}).runs()[0]  # fmt: skip
    metrics = pressure_metrics(run, {"steward": Pressure(0.1), "steward@ar-1850": Pressure(0.3)})
    assert metrics["pressure"] == pytest.approx(0.2)
    assert metrics["pressure.steward"] == 0.1


def test_episodes_are_played_once_for_arms_that_differ_in_prices_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    gauge = PressureGauge(seeds=2)
    first = index(gauge, "steward", STEWARD, PENALTY)
    monkeypatch.setattr("launch.run.evaluation.pressure.played", None)
    assert index(gauge, "steward", STEWARD, {**PENALTY, "weight": 0.0}).index <= first.index
    assert index(gauge, "steward", STEWARD, "ActionMask").unknown  # another mask, played again: fails here


def test_each_intervention_of_an_arm_has_the_pressure_under_it_alone(
    gauge: PressureGauge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("launch.run.evaluation.pressure.gauge", lambda: gauge)
    both, one = (pressures(gauge, {"steward": STEWARD}, *own)[0] for own in (("Identity", PENALTY), (PENALTY,)))
    found, alone = audit_pressure(both)[0], audit_pressure(one)[0]
    assert found["pressure/OverseerPenalty"] == found["pressure"] > 0 >= found["pressure/Identity"]
    assert alone["pressure/OverseerPenalty"] == alone["pressure"] == found["pressure"]


def test_a_dry_run_has_a_line_per_arm_point_and_world() -> None:
    worlds = {"steward": STEWARD, f"{HERE}:Market": {}}
    train = {"worlds": worlds, "updates": 1, "groups": 2, "group_size": 2}
    arms = {"unshaped": "", "penalty": {"interventions": [PENALTY]}}
    axes = {"arms.penalty.interventions.0.weight": [0.5, 1.0]}
    head, *lines = pressure_lines(study(Path("unused"), arms, train=train, axes=axes).runs())
    assert head.split()[:3] == ["arm", "world", "pressure"]
    assert [line.split()[0] for line in lines if " steward " in line] == [
        "unshaped",
        "penalty+weight=0.5",
        "penalty+weight=1.0",
    ]
    assert "+0.00 +- 0.00" in lines[0] and "overt_deny 1.00" in lines[0]
    assert all("unknown" in line and "WorldPolicies" in line for line in lines if "Market" in line)
    assert len(lines) == 6
