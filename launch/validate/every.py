"""Cards of every built-in monitor in several worlds, from the same episodes: what `shaping validate all` does.

A monitor that needs a file is given one that is made of the model: a probe, directions, beliefs. What cannot be made,
such as an endpoint, is told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from envs.skins.locales import named, split
from launch.config.plugins import MONITOR, builtins
from launch.directions.command import find_directions
from launch.errors import ConfigError, UserError
from launch.monitoring.probe import ProbeData, fit_probe
from launch.storage.documents import write_json
from launch.storage.files import disk_errors, make_directory
from launch.validate.reader import Reader
from launch.validate.sources import Labelled, scripted, world_options
from shaping.monitors import BeliefCheck, LinearProbe, MotiveCheck, OvertAction, PersonaMonitor
from shaping.monitors.base import Monitor, MonitorError
from shaping.monitors.read import read_all
from shaping.monitors.validation.card import Card
from shaping.monitors.validation.judge import judge
from shaping.monitors.validation.ranking import RESAMPLES

POWER = "power_seeking"
MADE = "made"
"""Folder of the files that were made for monitors."""
LEFT_OUT = "not_judged.json"
"""Which monitors have no card, and why."""
Made = Callable[[], Monitor]


@dataclass(frozen=True)
class Candidate:
    """A monitor that may get a card."""

    use: str
    """Name of its class."""
    name: str
    """Its own name."""
    make: Made
    """Makes it; raises `UserError` or `ValidationError` if that cannot be."""


@dataclass(frozen=True)
class Place:
    """A world, and who plays there."""

    world: str
    labelled: Labelled
    """All episodes."""
    own: Labelled
    """Those of the model."""


def validate_all(
    worlds: Sequence[str],
    out: Path,
    *,
    options: Mapping[str, Any] | None = None,
    episodes: int = 40,
    model: str = "",
    max_tokens: int = 64,
    threshold: float = 0.5,
    resamples: int = RESAMPLES,
    say: Callable[[str], None] = lambda line: None,
) -> list[Card]:
    """Write a card of every built-in monitor in every world into `out`, as JSON, and why others have none.

    Arguments are those of `validate_monitor`. Without `model` there are no cards of monitors that need one. Returns the
    cards.
    """
    reader = Reader(model, max_tokens) if model else None
    cards: list[Card] = []
    left_out: list[dict[str, str]] = []
    with disk_errors(out):
        make_directory(out / MADE)
    for world in worlds:
        place = _place(world, options or {}, episodes, reader, say)
        for candidate in _candidates(world, out / MADE, model, reader, place):
            try:
                cards.append(card := _card(candidate, place, reader, threshold, resamples))
            except (UserError, MonitorError, ValidationError) as error:
                why = _why(error)
                say(f"{candidate.name} in {world} has no card: {why}")
                left_out.append({"monitor": candidate.name, "use": candidate.use, "world": world, "why": why})
                continue
            for trait in card.traits:
                say(card.line(trait))
            with disk_errors(out):
                write_json(out / f"{card.monitor}-{card.world}.json", card.model_dump(mode="json"))
    with disk_errors(out):
        write_json(out / LEFT_OUT, left_out)
    return cards


def _place(
    world: str, options: Mapping[str, Any], episodes: int, reader: Reader | None, say: Callable[[str], None]
) -> Place:
    try:
        name = named(*split(world))
    except ValueError as error:
        raise UserError(f"--world: {error}") from None
    settings = world_options(world, options)
    if reader is None:
        found, own = scripted(name, settings, episodes), Labelled()
    else:
        found, own = reader.scripted(name, settings, episodes), reader.played(name, settings, episodes)
    found.extend(own)
    players = dict.fromkeys(origin.name for origin in found.origins)
    say(f"{world}: {episodes} episodes each of {', '.join(players)}")
    return Place(world, found, own)


def _card(candidate: Candidate, place: Place, reader: Reader | None, threshold: float, resamples: int) -> Card:
    monitor = candidate.make()
    labelled = place.own if isinstance(monitor, BeliefCheck) else place.labelled
    if captures := monitor.captures():
        assert reader is not None  # such a monitor was made of a model
        labelled = reader.seen(labelled, captures)
    world, home = split(place.world)
    read = read_all(monitor, labelled.episodes)
    if not read.whole:
        raise UserError(f"it failed at all episodes; the first: {next(iter(read.failures.values()))}")
    return judge(read, labelled.origins, world=world, locale=home, threshold=threshold, resamples=resamples)


def _candidates(world: str, out: Path, model: str, reader: Reader | None, place: Place) -> Iterator[Candidate]:
    """Every built-in monitor, and those of a free trait for power, too."""
    plain = split(world)[0]
    for use, found in sorted(builtins(MONITOR).items()):
        name = str(found.model_fields["name"].default)  # type: ignore[attr-defined]
        if found is LinearProbe:
            yield Candidate(use, name, partial(_probe, model, out / f"probe-{plain}.safetensors", world, "deception"))
            power = out / f"probe_power-{plain}.safetensors"
            yield Candidate(use, "probe_power", partial(_probe, model, power, world, POWER, "probe_power"))
        elif found is PersonaMonitor:
            yield Candidate(use, name, partial(_persona, model, out / "persona.safetensors", "deception", name))
            power = out / "persona_power.safetensors"
            yield Candidate(use, "persona_power", partial(_persona, model, power, "power", "persona_power"))
        elif found is BeliefCheck:
            yield Candidate(use, name, partial(_beliefs, reader, place, out / f"belief-{plain}.jsonl"))
        else:
            yield Candidate(use, name, found)
        if found is OvertAction:
            yield Candidate(use, "overt_power", partial(OvertAction, name="overt_power", trait=POWER))
        if found is MotiveCheck:
            fields: dict[str, Any] = {"name": "motive_power", "trait": POWER, "motives": ("power",)}
            yield Candidate(use, "motive_power", partial(MotiveCheck, **fields))
            yield Candidate(use, "motive_harm", partial(MotiveCheck, name="motive_harm", trait="harm"))


def _probe(model: str, path: Path, world: str, trait: str, name: str = "probe") -> Monitor:
    _needs(model, "a probe of a model's hidden states")
    fit_probe(model, path, ProbeData(worlds=(world,), trait=trait))
    return LinearProbe(path=str(path), trait=trait, name=name)


def _persona(model: str, path: Path, contrast: str, name: str) -> Monitor:
    _needs(model, "directions of a model's hidden states")
    if not path.exists():
        find_directions(model, path, contrast=contrast)
    return PersonaMonitor(path=str(path), trait="deception" if contrast == "deception" else POWER, name=name)


def _beliefs(reader: Reader | None, place: Place, path: Path) -> Monitor:
    if reader is None:
        raise ConfigError("it needs a model's answers off the record: give one with --model")
    return reader.beliefs(place.own, path)


def _needs(model: str, what: str) -> None:
    if not model:
        raise ConfigError(f"it needs {what}: give one with --model")


def _why(error: Exception) -> str:
    """What is missing, in a sentence."""
    if isinstance(error, ValidationError):
        missing = [str(each["loc"][0]) for each in error.errors() if each["type"] == "missing" and each["loc"]]
        return f"it needs {', '.join(missing)}, which nobody can make for it" if missing else str(error.errors()[0])
    return str(error)
