"""The pressure index of a run: strategies play the worlds it trains in, under its arm's mask, reward and prices.

No model samples anything, so the index is known before training, and in a dry run.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Final

import numpy as np

from envs.core import TextEnv
from envs.episode import Episode
from envs.limits import NoAnswerError, within
from envs.personas.strategies import strategies_of
from envs.text import message_of
from launch.config.plugins import build_arm, build_reward, build_world
from launch.config.study import RunConfig
from launch.run.seeds import derive
from rewards.base import Reward, RewardError, scored_groups
from shaping.arm import Arm
from shaping.audits.played import max_return
from shaping.audits.pressure.index import PolicyReturns, Pressure, deceives, mean_pressure, pressure_index
from shaping.audits.pressure.scripted import Make, Strategist, played
from shaping.hooks import InterventionError, Knob
from shaping.learning.credit.costs import costs_of
from shaping.learning.credit.credit_parts import names_of

SEEDS: Final = 24
"""Episodes of each strategy. All strategies, arms and replicates meet the same ones."""
HONEST: Final = "honest_admit"
"""The strategy whose command is given where the arm refuses another one's."""
PATIENCE: Final = 300.0
"""Seconds that one world may take: it, its policies or the arm may be of your own, and hang."""
KEPT: Final = 64
"""Worlds and masks whose episodes are kept."""


class PressureGauge:
    """Measures the pressure of runs. Episodes that differ in nothing but what they are paid and charged are kept."""

    def __init__(self, seeds: int = SEEDS) -> None:
        self._seeds = seeds
        self._played: dict[tuple[type, str], dict[str, list[Episode]] | str] = {}

    def of_run(self, run: RunConfig) -> dict[str, Pressure]:
        """Key of `train.worlds` -> its pressure under the run's arm as it is before training."""
        arm = build_arm(run.arm, run.arm_config, run.isolation, run.learner.ratio, run.seats)
        reward = build_reward(run.arm, run.arm_config, run.isolation)
        return {key: self._in_time(run, arm, reward, key) for key in run.train.worlds}

    def _in_time(self, run: RunConfig, arm: Arm, reward: Reward, key: str) -> Pressure:
        try:
            return within(PATIENCE, lambda: self._of_world(run, arm, reward, key))
        except NoAnswerError:
            return Pressure(None, unknown=f"scripted policies in world {key} have not ended within {PATIENCE:g} s")

    def _of_world(self, run: RunConfig, arm: Arm, reward: Reward, key: str) -> Pressure:
        try:
            episodes = self._episodes(run, arm, key)
            return Pressure(None, unknown=episodes) if isinstance(episodes, str) else _pressure(episodes, arm, reward)
        except (InterventionError, RewardError) as error:  # a hook that reads tokens, which scripted episodes lack
            return Pressure(None, unknown=f"the arm fails on scripted episodes of world {key}: {message_of(error)}")

    def _episodes(self, run: RunConfig, arm: Arm, key: str) -> dict[str, list[Episode]] | str:
        """Strategy -> its episodes, one per seed; or why there are none."""
        options = run.train.worlds[key]
        mask = run.arm_config.model_dump(mode="json")["interventions"] if Knob.ACTIONS in arm.owner else []
        world = build_world(key, options, "train.worlds")
        known = type(world), json.dumps([key, options, mask], sort_keys=True, default=repr)
        try:
            if known not in self._played:
                while len(self._played) >= KEPT:
                    self._played.pop(next(iter(self._played)))
                self._played[known] = self._play(world, key, arm)
            return self._played[known]
        finally:
            world.close()

    def _play(self, world: TextEnv, key: str, arm: Arm) -> dict[str, list[Episode]] | str:
        seeds = [derive("pressure", key.partition("@")[0], number) for number in range(self._seeds)]
        try:
            strategies = strategies_of(type(world))
            if not strategies:
                return f"no scripted policies for world {key}; register WorldPolicies (docs/plugins.md)"
            return _all_episodes(world, strategies, arm, seeds)
        except InterventionError:
            raise
        except BaseException as error:  # a world of one's own may raise whatever it likes
            return f"a scripted policy of world {key} failed: {type(error).__name__}: {message_of(error)}"


@cache
def gauge() -> PressureGauge:
    """That of this process, which runs of one study share."""
    return PressureGauge()


def pressure_metrics(run: RunConfig, found: Mapping[str, Pressure]) -> dict[str, float]:
    """`pressure`, the mean over the worlds trained in, and `pressure.<world>`; nothing where it is unknown."""
    by_name: dict[str, list[Pressure]] = {}
    for key, pressure in found.items():
        world = build_world(key, run.train.worlds[key], "train.worlds")
        by_name.setdefault(str(world.name), []).append(pressure)
        world.close()
    means = {f"pressure.{name}": mean_pressure(pressures) for name, pressures in by_name.items()}
    means["pressure"] = mean_pressure(list(found.values()))
    return {metric: value for metric, value in means.items() if value is not None}


def audit_pressure(run: RunConfig) -> tuple[dict[str, float], dict[str, Any]]:
    """(metrics of the summary, detail of result.json by key of `train.worlds`)."""
    found = gauge().of_run(run)
    detail = {key: pressure.as_dict() for key, pressure in found.items()}
    return {**pressure_metrics(run, found), **_by_intervention(run, mean_pressure(list(found.values())))}, detail


def _by_intervention(run: RunConfig, whole: float | None) -> dict[str, float]:
    """`pressure/<intervention>`: that of an arm which holds it alone. `whole` is that of the run's own arm."""
    specs = run.arm_config.interventions
    arm = build_arm(run.arm, run.arm_config, run.isolation, run.learner.ratio)
    alone = {}
    for name, spec in zip(names_of(arm.interventions), specs, strict=True):
        if len(specs) > 1 or run.arm_config.seats:
            config = run.arm_config.model_copy(update={"interventions": [spec], "seats": {}})
            alone[name] = mean_pressure(list(gauge().of_run(run.model_copy(update={"arm_config": config})).values()))
        else:
            alone[name] = whole
    return {f"pressure/{name}": index for name, index in alone.items() if index is not None}


def _all_episodes(
    world: TextEnv, strategies: Mapping[str, Make], arm: Arm, seeds: Sequence[int]
) -> dict[str, list[Episode]]:
    honest = strategies.get(HONEST)
    return {
        name: [played(world, Strategist(make, honest or make), arm, seed, group) for group, seed in enumerate(seeds)]
        for name, make in strategies.items()
    }


def _pressure(found: Mapping[str, Sequence[Episode]], arm: Arm, reward: Reward) -> Pressure:
    """Episodes of one seed are one group to the arm's reward and prices."""
    names = list(found)
    groups = list(zip(*found.values(), strict=True))
    episodes = [episode for group in groups for episode in group]
    full = np.array([max_return(episode) for episode in episodes])
    paid = np.array([turns.sum() for group in scored_groups(reward, groups) for turns in group]) / full
    charged = np.zeros(len(episodes))
    for constraint in arm.constraints:
        costs = costs_of(constraint, episodes)
        if costs is not None:
            charged += constraint.pricing.rate * np.array([turns.sum() for turns in costs]) / full
    labelled = np.array([deceives(episode.truth.open()) for episode in episodes])
    return pressure_index(
        [
            PolicyReturns(name, paid[at :: len(names)], charged[at :: len(names)], labelled[at :: len(names)])
            for at, name in enumerate(names)
        ]
    )
