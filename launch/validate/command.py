"""What `shaping validate` does after its arguments are read."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from envs.limits import NoAnswerError, within
from envs.skins.locales import DEFAULT, LOCALES, named, split
from envs.worlds.base import World
from launch.config.plugins import MONITOR, WORLD, find_class, load
from launch.config.study import PluginSpec
from launch.errors import UserError
from launch.storage.documents import write_json
from launch.storage.files import disk_errors, make_directory, write_text
from launch.validate.page import html, markdown
from launch.validate.reader import Reader, seen_by_run
from launch.validate.sources import Labelled, of_run, scripted, world_options
from shaping.monitors.base import Monitor, MonitorError
from shaping.monitors.read import EpisodesRead, read_all
from shaping.monitors.validation.card import Card
from shaping.monitors.validation.judge import judge
from shaping.monitors.validation.ranking import RESAMPLES

CARDS = "cards"
"""Folder of a study in which its report looks for cards."""


def validate_monitor(
    use: str,
    fields: Mapping[str, Any],
    world: str,
    *,
    options: Mapping[str, Any] | None = None,
    episodes: int = 40,
    locales: str = "",
    runs: Sequence[Path] = (),
    model: str = "",
    max_tokens: int = 64,
    threshold: float = 0.5,
    resamples: int = RESAMPLES,
    patience: float = 3600.0,
    say: Callable[[str], None] = lambda line: None,
) -> Card:
    """The card of a monitor in a world. Raises `UserError` where nothing can be judged, with what to do.

    Args:
        use, fields: the monitor, as under `eval.monitors`.
        world: name of the world, with a locale or without; figures are about this one.
        options: of the world.
        episodes: of each scripted player, and of the model.
        locales: comma-separated, `all` or `none`: where transfer is measured; empty: all for a cheap monitor.
        runs: finished runs, whose evaluations are added.
        model: a model that plays, too; empty: none.
        max_tokens: of a completion of the model.
        threshold: score from which on a turn is flagged.
        resamples: of the bootstrap.
        patience: seconds that the monitor may read.
        say: is told what is done.
    """
    monitor: Monitor = load(PluginSpec.model_validate({"use": use, **fields}), MONITOR, "validate")
    try:
        plain, home = split(world)
    except ValueError as error:
        raise UserError(f"--world: {error}") from None
    settings = world_options(world, options or {})
    captures = list(monitor.captures())
    labelled = _labelled(monitor, plain, home, settings, episodes, _abroad(monitor, plain, home, locales), say)
    for path in runs:
        for locale, found in of_run(path, plain, monitor).items():
            into = labelled.setdefault(locale, Labelled()) if locale == home else labelled.get(locale)
            if into is not None:
                into.extend(seen_by_run(path, found, captures) if captures else found)
    own = labelled.setdefault(home, Labelled())
    if model:
        reader, name = Reader(model, max_tokens), named(plain, home)
        if captures:
            own.extend(reader.seen(reader.scripted(name, settings, episodes), captures))
        own.extend(reader.seen(reader.played(name, settings, episodes), captures))
    reads = {locale: _read(monitor, found, patience) for locale, found in labelled.items()}
    _refuse_failures(reads[home])
    say(f"{sum(len(read.episodes) for read in reads.values())} episodes read")
    return _judged(reads, labelled, plain, home, threshold, resamples)


def _judged(
    reads: Mapping[str, EpisodesRead],
    labelled: Mapping[str, Labelled],
    world: str,
    home: str,
    threshold: float,
    resamples: int,
) -> Card:
    try:
        return judge(
            reads[home],
            labelled[home].origins,
            world=world,
            locale=home,
            abroad={name: (read, labelled[name].origins) for name, read in reads.items() if name != home},
            threshold=threshold,
            resamples=resamples,
        )
    except MonitorError as error:
        raise UserError(str(error)) from None


def write_card(card: Card, folder: Path) -> Path:
    """Write `<monitor>-<world>.json`, `.md` and `.html`. Returns the page."""
    name = re.sub(r"[^\w.-]+", "_", f"{card.monitor}-{card.world}").lstrip(".")
    with disk_errors(folder):
        make_directory(folder)
        write_json(folder / f"{name}.json", card.model_dump(mode="json"))
        write_text(folder / f"{name}.md", markdown(card))
        write_text(folder / f"{name}.html", html(card))
    return folder / f"{name}.html"


def folder_of(study: Path | None, out: Path | None) -> Path:
    """Where cards are kept. Raises `UserError` for a study that is none, and if both are given."""
    if study is None:
        return out or Path(CARDS)
    if out is not None:
        raise UserError("give --study or --out, not both: a study keeps the cards that its report cites")
    if not (study / "study.json").is_file():
        raise UserError(f"--study: {study} holds no study.json; give the directory of a study, or --out")
    return study / CARDS


def _labelled(
    monitor: Monitor,
    world: str,
    home: str,
    options: Mapping[str, Any],
    episodes: int,
    abroad: Sequence[str],
    say: Callable[[str], None],
) -> dict[str, Labelled]:
    """Locale -> scripted episodes; empty for a monitor of hidden states, which a model has to give them."""
    if monitor.captures():
        return {}
    found = {locale: scripted(named(world, locale), options, episodes) for locale in (home, *abroad)}
    players = dict.fromkeys(origin.name for origin in found[home].origins)
    say(f"{episodes} episodes each of {', '.join(players)}, in {', '.join(found)}")
    return found


def _abroad(monitor: Monitor, world: str, home: str, locales: str) -> list[str]:
    if locales == "none" or monitor.captures():
        return []
    takes_locales = issubclass(find_class(world, WORLD), World)
    if locales in ("", "all"):
        wanted = list(LOCALES) if takes_locales and (monitor.cheap or locales) and home in LOCALES else []
    else:
        wanted = [each.strip() for each in locales.split(",")]
    try:
        return list(dict.fromkeys(place for each in wanted if (place := split(f"{world}@{each}")[1]) != home))
    except ValueError as error:
        raise UserError(f"--locales: {error}; {DEFAULT} is the locale in which worlds are written") from None


def _read(monitor: Monitor, found: Labelled, patience: float) -> EpisodesRead:
    try:
        return within(patience, lambda: read_all(monitor, found.episodes))
    except NoAnswerError:
        raise UserError(
            f"monitor {monitor.name!r} has not read {len(found.episodes)} episodes within {patience:g} s; give fewer "
            "--episodes, or more time with --patience"
        ) from None


def _refuse_failures(read: EpisodesRead) -> None:
    name = read.monitor.name
    if not read.episodes:
        raise UserError(
            f"monitor {name!r} reads hidden states, which only a model has: give one with --model"
            if read.monitor.captures()
            else f"there are no episodes to judge monitor {name!r} by: give runs with --run"
        )
    if not read.whole:
        first = next(iter(read.failures.values()))
        raise UserError(f"monitor {name!r} failed at all {len(read.episodes)} episodes; the first: {first}")
