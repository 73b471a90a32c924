"""Factorial arms: `factorial: [a, b, c]` adds the combinations of these arms, so that every subset of them is one.

The empty subset is the reference and subsets of one are the arms themselves. Pure functions.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any, Final

from launch.config.arms.arms import ArmConfig, Derived
from launch.config.arms.axes import applies_to, keys_of
from launch.config.fields import PluginSpec
from launch.errors import nearest

JOINT: Final = "+"
"""What joins the names of arms in that of their combination."""
MOST: Final = 6
"""Arms of one factorial: 64 arms with the reference."""


def subsets(factors: Sequence[str], least: int = 0) -> list[tuple[str, ...]]:
    """Every subset of at least so many, the small ones first, each in the order of `factors`."""
    return [chosen for size in range(least, len(factors) + 1) for chosen in combinations(factors, size)]


def name_of(factors: Sequence[str]) -> str:
    """The arm in which these are combined: `prompt+routing`."""
    return JOINT.join(factors)


def combined(
    arms: Mapping[str, ArmConfig], factors: Sequence[str], axes: Mapping[str, Sequence[Any]]
) -> dict[str, ArmConfig]:
    """Name -> arm, for every combination of two or more factors that the study does not hold yet.

    A combination has the interventions of its arms in the order of `factors`, and what they set. Raises `ValueError`
    for factors that cannot be combined, with the two that do not go together.
    """
    written = {name: arm for name, arm in arms.items() if arm.derived is None}
    if joined := [name for name in written if JOINT in name]:
        raise ValueError(
            f"arms.{joined[0]}: a + joins the arms of a factorial; call it otherwise, or list its arms in it"
        )
    for problem in _problems(written, factors, axes):
        raise ValueError(problem)
    reference = next((arm for arm in written.values() if arm.role == "reference"), None)
    found = {}
    for chosen in subsets(factors, 2):
        if reference is not None and (name := name_of(chosen)) not in arms:
            found[name] = _joined({factor: written[factor] for factor in chosen}, reference)
    return found


def _problems(
    arms: Mapping[str, ArmConfig], factors: Sequence[str], axes: Mapping[str, Sequence[Any]]
) -> Iterator[str]:
    """What keeps these arms from being the factors of a factorial."""
    if not factors:
        return
    if unknown := [name for name in factors if name not in arms]:
        yield f"factorial: no arm {unknown[0]!r}{nearest(unknown[0], arms)}"
    if not 2 <= len(factors) <= MOST or len(set(factors)) < len(factors):
        yield f"factorial: list 2 to {MOST} different arms; here are {', '.join(factors)}"
    reference, base = next(((name, arm) for name, arm in arms.items() if arm.role == "reference"), ("", None))
    if reference in factors:
        yield f"factorial: {reference!r} is the reference, the arm without any of the factors; leave it out"
    if base is not None and (base.interventions or base.seats or base.set):
        yield (
            f"factorial: the reference {reference!r}, the arm without any of the factors, has interventions or "
            "settings of its own, which the factors lack; move them to the study's train and learner, or into every arm"
        )
    if len(roles := {arms[name].role: name for name in factors}) > 1:
        one, other = list(roles.values())[:2]
        yield f"factorial: {one!r} and {other!r} have different roles, so that their combination has none"
    for axis in axes:
        for name in factors:
            others = [name_of(chosen) for chosen in subsets(factors, 2) if name in chosen]
            if applies_to(axis, name) and (left := [each for each in others if not applies_to(axis, each)]):
                first = keys_of(axis)[0].split(".", 2)[-1]
                yield (
                    f"axes: {axis!r} reaches the arm {name!r} and not {left[0]!r}, which holds it, too; name both, "
                    f"separated by a comma: arms.{name}.{first}, arms.{left[0]}.{first}"
                )


def _joined(arms: Mapping[str, ArmConfig], reference: ArmConfig) -> ArmConfig:
    rewards: dict[str, PluginSpec] = {n: arm.reward for n, arm in arms.items() if arm.reward != reference.reward}
    for (one, first), (other, second) in combinations(rewards.items(), 2):
        if first != second:
            raise ValueError(f"factorial: {one!r} and {other!r} both change the reward; keep one of them")
    settings: dict[str, tuple[str, Any]] = {}
    for name, arm in arms.items():
        for key, value in arm.set.items():
            before, known = settings.setdefault(key, (name, value))
            if known != value:
                raise ValueError(f"factorial: {before!r} and {name!r} both set {key}; keep one of them")
    return ArmConfig(
        label=" + ".join(arm.label or name for name, arm in arms.items()),
        role=next(iter(arms.values())).role,
        interventions=[spec for arm in arms.values() for spec in arm.interventions],
        seats=_of_seats(arms.values()),
        reward=next(iter(rewards.values()), reference.reward),
        set={key: value for key, (_, value) in settings.items()},
        derived=Derived(by="factorial", of=list(arms), why=f"combines {' and '.join(arms)}"),
    )


def _of_seats(arms: Iterable[ArmConfig]) -> dict[str, list[PluginSpec]]:
    """Seat -> its interventions in all of these arms."""
    found: dict[str, list[PluginSpec]] = {}
    for arm in arms:
        for seat, specs in arm.seats.items():
            found[seat] = [*found.get(seat, ()), *specs]
    return found
