"""What stands for an isolated plug-in in the run: an intervention or a reward, whose hooks ask the other process."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import PrivateAttr

from envs.episode import Episode
from launch.config.isolation import Isolation
from launch.isolation.describe import VALUES
from launch.isolation.host import Guest, IsolationError
from rewards.base import Reward, RewardError
from shaping.hooks import AdapterSpec, InterventionError, Knob
from shaping.intervention import Constraint, Intervention, Shaper
from shaping.monitors.base import Monitor


class _Named(Monitor):
    """A monitor of which only the name is known here."""

    def read(self, episode: Episode) -> list[Any]:
        return []


class IsolatedReward(Reward):
    """Asks a reward in another process."""

    _guest: Guest = PrivateAttr()
    _monitors: list[Monitor] = PrivateAttr()

    def score(self, episode: Episode) -> NDArray[np.float64]:
        answer: NDArray[np.float64] = self._guest.ask("score", [episode], RewardError)
        return answer

    def score_group(self, episodes: Sequence[Episode]) -> list[NDArray[np.float64]]:
        answer: list[NDArray[np.float64]] = self._guest.ask("score_group", [tuple(episodes)], RewardError)
        return answer


def isolated(kind: str, use: str, fields: Mapping[str, Any], where: str, arm: str, isolation: Isolation) -> Any:
    """Build a plug-in in a process of its own. `kind` is `reward` or `intervention`.

    Raises: `IsolationError` if it cannot be built, or cannot run there.
    """
    guest = Guest({"kind": kind, "use": use, "fields": dict(fields), "where": where, "arm": arm}, isolation)
    try:
        monitors = [_monitor(each) for each in guest.about["monitors"]]
        if kind == "reward":
            named = type(_class_name(guest), (IsolatedReward,), {"__module__": __name__})
            standin: Any = named()
        else:
            standin = _intervention(guest)
    except (KeyError, TypeError, ValueError) as error:
        raise IsolationError(f"{where} ({use}): its isolated process describes it wrongly: {error}") from error
    standin._guest, standin._monitors = guest, monitors
    return standin


def walls(plugins: Iterable[Any]) -> list[str]:
    """A line for every isolated plug-in: what it is kept from."""
    guests = [getattr(plugin, "_guest", None) for plugin in plugins]
    return [f"{guest.use} runs isolated; {guest.walls}" for guest in guests if isinstance(guest, Guest)]


def _class_name(guest: Guest) -> str:
    name = guest.about["name"]
    if not isinstance(name, str) or not name.isidentifier() or len(name) > 200:
        raise ValueError(f"{name!r} is no name of a class")
    return name


def _intervention(guest: Guest) -> Intervention:
    """An instance of a class with the plug-in's name, knobs and overridden hooks."""
    about = guest.about
    base: Any = {"Shaper": Shaper, "Constraint": Constraint}[about["base"]]
    if unknown := set(about["hooks"]) - set(VALUES):
        raise ValueError(f"hooks {sorted(unknown)}")
    members: dict[str, Any] = {hook: _asks(hook) for hook in about["hooks"]}
    members |= {
        "__module__": __name__,
        "__annotations__": {"owns": ClassVar[frozenset[Knob]], "_guest": Guest, "_monitors": list[Monitor]},
        "owns": frozenset(Knob(knob) for knob in about["owns"]),
        "knows_truth": property(_constant(bool(about["oracle"]))),
        "_guest": PrivateAttr(),
        "_monitors": PrivateAttr(),
    }
    kind: Any = type(base)(_class_name(guest), (base,), members)
    standin: Intervention = kind() if about["weight"] is None else kind(weight=about["weight"])
    return standin


def _constant(value: bool) -> Callable[[Any], bool]:
    return lambda self: value


def _asks(hook: str) -> Callable[..., Any]:
    def ask(self: Any, *arguments: Any) -> Any:
        answer = self._guest.ask(hook, arguments, InterventionError)
        if hook == "adapters" and any(_named_files(each) for each in answer or ()):
            raise InterventionError(
                f"{type(self).__name__}.adapters() names a path: an isolated plug-in may not have files opened for it"
            )
        return answer

    ask.__name__ = ask.__qualname__ = hook
    return ask


def _named_files(spec: Any) -> bool:
    return isinstance(spec, AdapterSpec) and bool(spec.path or (spec.subspace and spec.subspace.path))


def _monitor(described: Mapping[str, Any]) -> Monitor:
    """The monitor that a plug-in reads, if its class is loaded here; else one of the same name."""
    kind: Any = getattr(sys.modules.get(str(described["module"])), str(described["kind"]), None)
    try:
        if isinstance(kind, type) and issubclass(kind, Monitor):
            return kind.model_validate_json(described["fields"])
    except ValueError:
        pass
    return _Named(name=str(described["name"]))
