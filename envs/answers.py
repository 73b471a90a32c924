"""The one validator of what a world answers: a fault names the world's class, the field and the demand.

`opened` takes the answer of `reset`, `step_result` that of `step`, and `finite_number` any number. Text becomes valid
UTF-8 here (`envs.text`), numpy's numbers and truth values become Python's. A field of `info` that is missing is
neutral; one that is there must be right. `envs.check` puts the same parts into its rules.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any, NamedTuple

import numpy as np

from envs.episode import OUTCOMES, TRAITS, Event, Labels
from envs.text import valid

SHARES = ("power", "resource_share", "privileges", "unneeded_power")
"""Labels that are shares, in [0, 1]."""


class WorldContractError(RuntimeError):
    """A world raised, or returned something that its contract forbids."""


class StepResult(NamedTuple):
    """A valid answer of `step`."""

    observation: str
    reward: float
    terminated: bool
    truncated: bool
    labels: Labels
    events: tuple[Event, ...]
    overt_shortcuts: tuple[str, ...]
    executed: str
    cut_off: bool


class Public(NamedTuple):
    """The fields of `info` that an onlooker may see."""

    events: tuple[Event, ...]
    overt_shortcuts: tuple[str, ...]
    executed: str
    cut_off: bool


def opened(answer: Any, where: str) -> tuple[str, tuple[str, ...]]:
    """(observation, overt shortcuts of the first turn) of a `reset`. Raises `WorldContractError`."""
    observation, info = reset_pair(answer, where)
    return valid(observation), public(info, where).overt_shortcuts


def step_result(answer: Any, where: str) -> StepResult:
    """The answer of a `step`, all of it checked. Raises `WorldContractError`."""
    observation, reward, terminated, truncated, info = five_values(answer, where)
    labels, shown = info["labels"], public(info, where)
    if fault := label_fault(labels):
        raise WorldContractError(f"{where}: {fault}")
    return StepResult(valid(observation), reward, terminated, truncated, labels, *shown)


def reset_pair(answer: Any, where: str) -> tuple[str, Mapping[str, Any]]:
    """`answer` as (observation, info)."""
    if not isinstance(answer, tuple) or len(answer) != 2:
        raise WorldContractError(f"{where} must return (observation, info), not {_types(answer)}")
    observation, info = answer
    if not isinstance(observation, str):
        raise WorldContractError(f"{where}: the observation is a {_type(observation)}; it must be text")
    if not isinstance(info, Mapping):
        raise WorldContractError(f"{where}: info must be a mapping, not a {_type(info)}")
    return observation, info


def five_values(answer: Any, where: str) -> tuple[str, float, bool, bool, Mapping[str, Any]]:
    """`answer` as (observation, reward, terminated, truncated, info), with labels in `info`."""
    if not isinstance(answer, (tuple, list)) or len(answer) != 5:
        raise WorldContractError(
            f"{where} must return five values, (observation, reward, terminated, truncated, info), not {_types(answer)}"
        )
    observation, reward, terminated, truncated, info = answer
    if not isinstance(observation, str):
        raise WorldContractError(f"{where}: the observation is a {_type(observation)}; it must be text")
    number = finite_number(reward, "reward", where)
    for field, value in (("terminated", terminated), ("truncated", truncated)):
        if not isinstance(value, (bool, np.bool_)):
            raise WorldContractError(f"{where}: {field} is a {_type(value)}; it must be a bool")
    if not isinstance(info, Mapping):
        raise WorldContractError(f"{where}: info must be a mapping, not a {_type(info)}")
    if not isinstance(info.get("labels"), Labels):
        raise WorldContractError(
            f"{where}: info['labels'] must be envs.episode.Labels, not a {_type(info.get('labels'))}"
        )
    return observation, number, bool(terminated), bool(truncated), info


def finite_number(value: Any, field: str, where: str) -> float:
    """`value` as a float. Raises `WorldContractError` for anything but a finite real number."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, Real):
        raise WorldContractError(f"{where}: the {field} is a {_type(value)}; it must be a float")
    try:
        number = float(value)
    except (OverflowError, ValueError, ArithmeticError):
        number = math.inf
    if not math.isfinite(number):
        raise WorldContractError(f"{where}: the {field} is {_shown(value)}; it must be a finite number")
    return number


def positive_number(value: Any, field: str, where: str) -> float:
    """`value` as a float. Raises `WorldContractError` for anything but a finite number above 0."""
    if (number := finite_number(value, field, where)) <= 0:
        raise WorldContractError(f"{where}: the {field} is {number:g}; it must be above 0: returns are divided by it")
    return number


def public(info: Mapping[str, Any], where: str) -> Public:
    """The public fields of `info`."""
    events = info.get("events", ())
    if not _is_series(events) or not all(map(_is_event, events)):
        raise WorldContractError(f"{where}: info['events'] must be a tuple of envs.episode.Event, not {_types(events)}")
    overt = info.get("overt_shortcuts", ())
    if not _is_series(overt) or not all(isinstance(command, str) for command in overt):
        raise WorldContractError(f"{where}: info['overt_shortcuts'] must be a tuple of commands, not {_types(overt)}")
    executed = info.get("executed", "")
    if not isinstance(executed, str):
        raise WorldContractError(
            f"{where}: info['executed'] must be text (empty if nothing was executed), not a {_type(executed)}"
        )
    cut_off = info.get("cut_off", False)
    if not isinstance(cut_off, (bool, np.bool_)):
        raise WorldContractError(f"{where}: info['cut_off'] is a {_type(cut_off)}; it must be a bool")
    told = tuple(Event(valid(e.kind), valid(e.name), valid(e.text), bool(e.admits)) for e in events)
    return Public(told, tuple(map(valid, overt)), valid(executed), bool(cut_off))


def label_fault(labels: Labels) -> str:
    """What is wrong with the labels of a turn, taken alone; empty if nothing is."""
    for trait in TRAITS:
        if not _is_number(count := getattr(labels, trait)) or count < 0:
            return f"label {trait} is {_shown(count)}; it must be a count"
    if not (isinstance(labels.knew, (bool, np.bool_)) and isinstance(labels.monitored, (bool, np.bool_))):
        return "labels knew and monitored must be bool"
    for share in SHARES:
        if not _is_number(value := getattr(labels, share)) or not 0 <= value <= 1:
            return f"label {share} is {_shown(value)}; it must be in [0, 1]"
    if not _is_number(labels.true_reward):
        return f"label true_reward is {_shown(labels.true_reward)}; it must be a finite number"
    if not _is_number(labels.d_power) or abs(labels.d_power) > 1:
        return f"label d_power is {_shown(labels.d_power)}; it must be in [-1, 1]"
    if not isinstance(labels.opportunity, Mapping):
        return f"label opportunity is a {_type(labels.opportunity)}; it must map traits to bool"
    if unknown := [trait for trait in labels.opportunity if trait not in TRAITS]:
        return f"label opportunity names {unknown[0]!r:.60}, which is no trait; the traits are {', '.join(TRAITS)}"
    if labels.outcome not in OUTCOMES:
        return f"label outcome is {labels.outcome!r:.60}; it must be empty or one of {', '.join(OUTCOMES[1:])}"
    return ""


def _is_number(value: Any) -> bool:
    if type(value) is float:
        return math.isfinite(value)
    try:
        return isinstance(value, Real) and math.isfinite(value)
    except (OverflowError, ValueError, ArithmeticError):
        return False


def _is_series(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes))


def _is_event(value: Any) -> bool:
    return isinstance(value, Event) and all(isinstance(part, str) for part in value[:3])


def _shown(value: Any) -> str:
    """A number in a message; one of hundreds of digits by its size alone."""
    if isinstance(value, int) and abs(value) >= 10**30:
        return f"a whole number of about {int(value.bit_length() * 0.301)} digits"
    return f"{value!r:.60}" if isinstance(value, (int, float, np.number)) else f"a {_type(value)}"


def _types(answer: object) -> str:
    if isinstance(answer, (tuple, list)) and len(answer) < 10:
        return "(" + ", ".join(_type(value) for value in answer) + ")"
    return f"a {_type(answer)}"


def _type(value: object) -> str:
    return type(value).__name__


def hook_text(world: object, hook: str, answer: Any) -> str:
    """What a hook of a world says, which must be text."""
    if type(answer) is str or isinstance(answer, str):
        return answer
    raise _wrong(world, hook, answer, "text")


def hook_texts(world: object, hook: str, answer: Any) -> tuple[str, ...]:
    """Commands or traits; a list is as good as a tuple."""
    if _is_series(answer) and all(isinstance(each, str) for each in answer):
        return answer if type(answer) is tuple else tuple(answer)
    raise _wrong(world, hook, answer, "a tuple of texts")


def hook_traits(world: object, hook: str, answer: Any) -> tuple[str, ...]:
    """Names of traits."""
    traits = hook_texts(world, hook, answer)
    for trait in traits:
        if trait not in TRAITS:
            raise _wrong(world, hook, trait, f"traits, which are {', '.join(TRAITS)}")
    return traits


def hook_count(world: object, hook: str, answer: Any) -> int:
    """A number of turns, at least 1."""
    if isinstance(answer, (bool, np.bool_)) or not isinstance(answer, (int, np.integer)) or answer < 1:
        raise _wrong(world, hook, answer, "a whole number from 1")
    return int(answer)


def hook_flag(world: object, hook: str, answer: Any) -> bool:
    """True or False."""
    if isinstance(answer, (bool, np.bool_)):
        return bool(answer)
    raise _wrong(world, hook, answer, "True or False")


def hook_share(world: object, hook: str, answer: Any) -> float:
    """A number in [0, 1]."""
    if not _is_number(answer) or not 0 <= answer <= 1:
        raise _wrong(world, hook, answer, "a number in [0, 1]")
    return float(answer)


def _wrong(world: object, hook: str, answer: Any, wanted: str) -> WorldContractError:
    return WorldContractError(f"{type(world).__name__}.{hook}() returned {answer!r:.80}; it must return {wanted}")
