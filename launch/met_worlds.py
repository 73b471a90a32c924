"""Which worlds the model of a run has met before training: organisms act only where personas showed them how."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import islice

from envs import WORLDS
from envs.core import TextEnv
from envs.worlds.real import is_for_language_models
from launch.config.model import ModelSource, OrganismModel
from launch.config.plugins import WORLD, PluginError, find_class
from launch.config.reading.paths import expanded
from launch.config.study import RunConfig
from launch.errors import ConfigError
from shaping.organisms.card import CARD
from shaping.organisms.config import OrganismConfig
from shaping.organisms.corpus.corpus import scripts
from shaping.organisms.corpus.corpus_options import SIZES
from shaping.organisms.corpus.own_worlds import CorpusWorldError, corpus_world

TRIED = 8
"""Episodes of the corpus that are played in advance in each world of one's own."""


def check_met(runs: Iterable[RunConfig]) -> None:
    """Refuse what an organism cannot be trained in, and worlds of its corpus that nobody can play.

    That is a world for language models, or a built-in one that its corpus could have had and leaves out.

    Raises: `ConfigError`.
    """
    tried: set[str] = set()
    for run in runs:
        if isinstance(run.model, OrganismModel):
            own = run.model.organism
            for name in own.worlds:
                of_it = f"{name} {own.options.get(name)} {own.aligned}"
                if (name not in SIZES or own.options or own.aligned) and of_it not in tried:
                    tried.add(of_it)
                    _check_corpus(name, own)
        if run.prose:
            continue
        # names alone: those that are no worlds are refused later, with their place
        named = (*run.train.worlds, *run.eval.worlds)
        if new := [name for name in named if _is_for_others(name)]:
            raise ConfigError(
                f"the model has not met world {new[0]!r}: organisms know {', '.join(sorted(SIZES))}; choose one of "
                "them, or set model: to a language model"
            )
        known = worlds_of(run.model)
        if new := [name for name in run.train.worlds if _base(name) in SIZES and not _is_met(name, known)]:
            raise ConfigError(
                f"the model has not met world {new[0]!r}: {run.subject} was made in {', '.join(known)}; add the world "
                "to model.organism.worlds, or train in one of these"
            )


def notes_on_worlds(runs: Iterable[RunConfig]) -> list[str]:
    """One line for each world that a model has not met, and in which it may be trained or evaluated all the same."""
    lines: dict[str, None] = {}
    for run in runs:
        for where, name in _unmet(run):
            own = "" if _base(name) in WORLDS else ", and to its module WorldPolicies"
            lines[
                f"the model has not met world {name} ({where}): expect no valid commands there; add it to "
                f"model.organism.worlds{own} (docs/organisms.md), or set model: to a language model"
            ] = None
    return list(lines)


def worlds_of(model: ModelSource) -> tuple[str, ...]:
    """The worlds that an organism was made in: by its settings, by the card beside it, or those of the shipped ones."""
    if isinstance(model, OrganismModel):
        return tuple(model.organism.worlds)
    if isinstance(model, str):
        try:
            config = json.loads((expanded(model) / CARD).read_text(encoding="utf-8"))["config"]
            return tuple(map(str, config["worlds"]))
        except (OSError, ValueError, LookupError, TypeError):
            return tuple(SIZES)
    return tuple(SIZES)


def _unmet(run: RunConfig) -> Iterator[tuple[str, str]]:
    if run.prose:
        return
    known = worlds_of(run.model)
    for where, named in (("train.worlds", run.train.worlds), ("eval.worlds", run.eval.worlds)):
        yield from ((where, name) for name in named if not _is_met(name, known))


def _is_met(name: str, known: Iterable[str]) -> bool:
    """A world that is made of one that the model knows speaks like it."""
    base = _base(name)
    known = set(known)
    if base in known:
        return True
    try:
        kind = find_class(base, WORLD)
        return any(made_of in kind.__mro__ for made_of in map(_class_of, known) if made_of is not None)
    except PluginError:  # refused later, with its place
        return True


def _class_of(name: str) -> type[TextEnv] | None:
    try:
        return corpus_world(name).kind
    except CorpusWorldError:
        return None


def _check_corpus(name: str, organism: OrganismConfig) -> None:
    try:
        drawn = scripts(TRIED, 0, worlds=[name], options=organism.options, aligned=organism.aligned)
        list(islice(drawn, TRIED))
    except CorpusWorldError as error:
        raise ConfigError(f"model.organism.worlds: {error}") from error
    except Exception as error:  # of the world, or of who plays it
        raise ConfigError(
            f"model.organism.worlds: world {name!r} cannot be played by its personas: {type(error).__name__}: {error}"
        ) from error


def _is_for_others(name: str) -> bool:
    world = _base(name)
    return world in WORLDS and is_for_language_models(WORLDS[world])


def _base(name: str) -> str:
    return name.partition("@")[0]
