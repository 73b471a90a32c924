"""A monitor that an intervention or a reward can reach is trained against, wherever it is kept."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import PrivateAttr, ValidationError

from envs.discovery import subclasses
from envs.episode import Episode
from rewards.base import Reward
from rewards.env_reward import EnvReward
from shaping.arm import compose
from shaping.constraints import Penalty as FixedPrice
from shaping.constraints import Screening
from shaping.intervention import Constraint, Intervention, Shaper
from shaping.labels import LabelSource
from shaping.monitors.base import Monitor, Reading
from shaping.monitors.claim_check import ClaimCheck
from shaping.monitors.overt_action import OvertAction
from shaping.monitors.reachable import reachable_monitors, spent_names
from shaping.shapers import GradientRouting
from shaping.shapers.identity import Identity


class Penalty(Constraint):
    watched_by: Monitor


class ListReward(Reward):
    """Pays for what several monitors say, each with options of its own."""

    parts: list[dict[str, Monitor]]

    def score(self, episode: Episode) -> NDArray[np.float64]:
        return np.zeros(len(episode.turns))


class Nested(Shaper):
    inner: Penalty


class Lazy(Shaper):
    """Makes its monitor when it is first needed."""

    _monitor: Monitor | None = PrivateAttr(None)

    def prepare(self) -> None:
        self._monitor = ClaimCheck(name="made_later")


class Shared(Shaper):
    judge: ClassVar[Monitor] = OvertAction(name="of_the_class")


class Holder:
    """An object that is no pydantic model."""

    def __init__(self, monitor: Monitor) -> None:
        self.monitor = monitor

    def read(self, episode: Episode) -> list[Reading]:
        return self.monitor.read(episode)


class Calls(Shaper):
    _call: Any = PrivateAttr(None)

    def using(self, call: Any) -> Calls:
        self._call = call
        return self


class Ensemble(Monitor):
    name: str = "ensemble"
    members: tuple[Monitor, ...]

    def read(self, episode: Episode) -> list[Reading]:
        return [reading for member in self.members for reading in member.read(episode)]


def names(*roots: object) -> list[str]:
    return [monitor.name for monitor in reachable_monitors(roots)]


def closure(monitor: Monitor) -> Callable[[Episode], list[Reading]]:
    return lambda episode: monitor.read(episode)


def default(monitor: Monitor) -> Callable[..., list[Reading]]:
    def read(episode: Episode, by: Monitor = monitor) -> list[Reading]:
        return by.read(episode)

    return read


def test_interventions_and_rewards_without_monitors_reach_none() -> None:
    assert names(Identity(), EnvReward(), Lazy()) == []


def test_fields_are_followed_also_through_lists_and_other_plug_ins() -> None:
    probe = OvertAction(name="probe")
    assert names(Penalty(watched_by=probe)) == ["probe"]
    assert names(Nested(inner=Penalty(watched_by=probe))) == ["probe"]
    assert names(ListReward(parts=[{}, {"a": probe, "b": ClaimCheck()}])) == ["claim_check", "probe"]


def test_private_attributes_and_class_variables_are_followed() -> None:
    lazy = Lazy()
    lazy.prepare()
    assert names(lazy, Shared()) == ["made_later", "of_the_class"]


@pytest.mark.parametrize(
    "wrap", [Holder, closure, default, lambda m: partial(sorted, key=m.read), lambda m: Holder(m).read]
)
def test_objects_functions_and_methods_are_followed(wrap: Callable[[Monitor], Any]) -> None:
    assert names(Calls().using(wrap(ClaimCheck(name="hidden")))) == ["hidden"]


def test_an_ensemble_spends_its_members() -> None:
    assert names(Penalty(watched_by=Ensemble(members=(ClaimCheck(), OvertAction())))) == [
        "claim_check",
        "ensemble",
        "overt_action",
    ]


def test_a_cycle_ends_and_one_object_is_found_once() -> None:
    probe = OvertAction(name="probe")
    circle: list[Any] = [probe, probe]
    circle.append(circle)
    assert names(Calls().using(circle), Penalty(watched_by=probe)) == ["probe"]


def test_another_name_or_role_does_not_make_another_monitor() -> None:
    trained = Penalty(watched_by=OvertAction(name="mine", role="train", trait="power_seeking"))
    evaluated: Mapping[str, Monitor] = {
        "the same": OvertAction(name="same", trait="power_seeking"),
        "other settings": OvertAction(name="other"),
        "another class": ClaimCheck(),
    }
    assert spent_names([trained], list(evaluated.values())) == ["mine", "same"]
    assert spent_names([Identity()], list(evaluated.values())) == []


# Other people's code --------------------------------------------------------------------------------------------------

JUDGE = OvertAction(name="of_the_module")


def judged(episode: Episode) -> int:
    return len(JUDGE.read(episode))


class UsesAGlobal(Shaper):
    """Takes its monitor from the module, through a function and within another one."""

    def readings(self, episode: Episode) -> dict[str, Any]:
        return {"judged": np.array([(lambda: judged(episode))()] * len(episode.turns))}


class MakesOne(Reward):
    """Makes a monitor whenever it is asked."""

    def score(self, episode: Episode) -> NDArray[np.float64]:
        from shaping.monitors import ClaimCheck as Checks

        return np.full(len(episode.turns), float(len(Checks().read(episode))))


class Elsewhere(Shaper):
    """Uses nothing of the module but this number."""

    weight: float = 1.0


def test_a_monitor_in_a_global_variable_of_a_plug_ins_module_is_found() -> None:
    assert names(UsesAGlobal()) == ["of_the_module"]
    assert names(Calls().using(judged)) == ["of_the_module"] and names(Elsewhere()) == []
    assert names(Calls().using(partial(partial, judged))) == ["of_the_module"]


def test_a_plug_in_that_makes_a_monitor_for_itself_spends_all_of_its_class() -> None:
    held = [ClaimCheck(name="mine", unasked=frozenset()), OvertAction()]
    assert spent_names([MakesOne()], held) == ["mine"] and names(MakesOne()) == []


def test_a_label_source_spends_its_monitor_also_in_a_control() -> None:
    labels = LabelSource(source="monitor", monitor=OvertAction(name="labeller", role="train"), placebo=True)
    for method in (GradientRouting(labels=labels), Screening(labels=labels), FixedPrice(labels=labels)):
        assert names(compose("arm", [method])) == ["labeller"]


def test_no_built_in_method_reaches_a_monitor_that_nobody_gave_it() -> None:
    """Code of the framework is not looked into, and what is reached of it holds no monitor."""
    for world_of in ("shaping.shapers", "shaping.constraints"):
        for kind in subclasses(world_of, Intervention).values():  # type: ignore[type-abstract]
            if kind.__name__ not in ("MonitorPenalty", "ThoughtPenalty"):
                with contextlib.suppress(ValidationError):  # one that needs a setting
                    assert names(kind()) == [], kind
