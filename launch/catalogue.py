"""What there is to choose from, found by scanning: `shaping list [kind]`."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator
from dataclasses import fields
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

from launch.config.plugins import (
    CLAIM,
    INTERVENTION,
    MONITOR,
    REWARD,
    SECTION,
    WORLD,
    Kind,
    PluginError,
    builtins,
    find_class,
    installed,
    one_line,
)

if TYPE_CHECKING:
    from envs.personas.persona import Persona
    from shaping.audits.metrics import Metric

WIDTH = 120
"""Characters of a line, where all kinds are listed."""


class Entry(NamedTuple):
    """One thing that a study can name."""

    name: str
    line: str
    """What it is, in one line."""
    details: tuple[str, ...] = ()
    """Further lines, shown where its kind is listed alone."""


def _classes(kind: Kind, base: str = "") -> Iterator[Entry]:
    """Built-in classes, then those of other packages. `base`: only subclasses of the one that this names."""
    wanted = base or kind.base
    for name, found in sorted(builtins(kind).items()):
        if _is_a(found, wanted):
            yield Entry(name, one_line(found))
    for name, point in sorted(installed(kind).items()):
        try:
            found = find_class(name, kind)
        except PluginError as error:
            yield Entry(name, f"{point.value}: {error}")
            continue
        if _is_a(found, wanted):
            yield Entry(name, f"{one_line(found)} ({point.value})")


def _is_a(found: type, base: str) -> bool:
    module, _, name = base.partition(":")
    return any((each.__module__, each.__name__) == (module, name) for each in found.__mro__)


def _personas() -> Iterator[Entry]:
    from envs.personas.persona import PERSONAS

    return (Entry(name, _traits(found)) for name, found in PERSONAS.items())


def _traits(persona: Persona) -> str:
    """The traits in which a persona differs from one that only works: `unwatched 1, lies`."""
    given = {f.name: getattr(persona, f.name) for f in fields(persona) if f.name not in ("name", "motives")}
    said = (name if value is True else f"{name} {value:g}" for name, value in given.items() if value)
    return ", ".join(said) or "does the work, takes no shortcut, tells the truth when asked"


def _metrics() -> Iterator[Entry]:
    from shaping.audits.metrics import all_metrics

    return (Entry(metric.name, metric.definition, _record(metric)) for metric in all_metrics())


def _record(metric: Metric) -> tuple[str, ...]:
    return f"label: {metric.label}", f"unit: {metric.unit}", f"direction: {metric.direction.replace('_', ' ')}"


def _studies() -> Iterator[Entry]:
    from launch.config.loading import bundled_studies

    for name, path in bundled_studies().items():
        first = path.read_text(encoding="utf-8").partition("\n")[0]
        yield Entry(name, first.lstrip("# ") if first.startswith("#") else str(path))


def _prompts() -> Iterator[Entry]:
    from shaping.prompts.pools import NATURAL, PROMPTS

    pools = dict(PROMPTS)
    pools |= {f"{name}@{language}-prose": pool for language, named in NATURAL.items() for name, pool in named.items()}
    return (Entry(name, f"{len(pool)} prompts, the first: {pool[0]}") for name, pool in pools.items())


CATALOGUE: Final[dict[str, Callable[[], Iterator[Entry]]]] = {
    "worlds": partial(_classes, WORLD),
    "personas": _personas,
    "shapers": partial(_classes, INTERVENTION, "shaping.intervention:Shaper"),
    "constraints": partial(_classes, INTERVENTION, "shaping.intervention:Constraint"),
    "prompts": _prompts,
    "rewards": partial(_classes, REWARD),
    "monitors": partial(_classes, MONITOR),
    "metrics": _metrics,
    "claims": partial(_classes, CLAIM),
    "sections": partial(_classes, SECTION),
    "studies": _studies,
}
"""Kind -> its entries."""


def lines(kind: str = "") -> Iterator[str]:
    """Every kind with one line per entry, or one kind with all that is known of each."""
    for name in [kind] if kind else CATALOGUE:
        yield name
        entries = list(CATALOGUE[name]())
        width = max((len(entry.name) for entry in entries), default=0)
        for entry in entries:
            yield f"  {entry.name:<{width}}  {entry.line if kind else _short(entry.line, WIDTH - width - 4)}"
            if kind:
                yield from (f"  {'':<{width}}  {detail}" for detail in entry.details)


def _short(line: str, width: int) -> str:
    return textwrap.shorten(line, width, placeholder=" ...")
