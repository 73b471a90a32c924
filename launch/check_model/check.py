"""Measures the gates of a model in several worlds, and keeps them with the model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from envs import WORLDS, make_world
from envs.skins import named, split
from launch.check_model.engine import loaded
from launch.check_model.training import train_gate
from launch.config.world_locales import DIALECT, spoken
from launch.errors import ConfigError
from launch.run.models.cache import cache_errors
from shaping.organisms.corpus.corpus_options import SIZES
from shaping.organisms.gates.assay import assay
from shaping.organisms.gates.cells import options_of
from shaping.organisms.gates.record import GATES, Gates, Settings, Training
from shaping.organisms.gates.store import gates_of, keep, model_hash

Note = Callable[[str], None]


def measure_model(
    model: Path,
    worlds: Sequence[str],
    settings: Settings,
    *,
    training: Training | None = None,
    device: str = "auto",
    note: Note = lambda _: None,
) -> tuple[Gates, Path]:
    """Measure and store the gates of a model.

    Args:
        model: its directory.
        worlds: where to measure.
        settings: how.
        training: how M6 trains; None: without M6.
        device: of the model.
        note: receives lines about the progress.
    Returns: everything that is known of these worlds now, and the file in which it is kept.
    """
    subject = loaded(model, settings, device)
    key = model_hash(model)
    place = model
    for world in worlds:
        note(f"{world}: M1 to M5 ...")
        measured = assay(subject.engine, subject.renderer, world, settings, slots=subject.slots)
        place = _keep(model, Gates(model=key, worlds={world: measured}), worlds)
        if training is not None:
            note(f"{world}: M6, {training.updates} updates ...")
            gate = train_gate(model, world, settings, training, device)
            measured = measured.model_copy(update={"gates": {**measured.gates, "M6": gate}, "training": training})
            place = _keep(model, Gates(model=key, worlds={world: measured}), worlds)
    known = gates_of(model, own=worlds)
    assert known is not None, place
    return known.model_copy(update={"worlds": {world: known.worlds[world] for world in worlds}}), place


def _keep(model: Path, gates: Gates, worlds: Sequence[str]) -> Path:
    """After each world, and before its M6, which takes longest: what was measured stays if what follows fails."""
    with cache_errors():
        return keep(model, gates, own=worlds)


def worlds_of(names: str) -> list[str]:
    """Worlds from a comma-separated list; empty: those that organisms know. Raises `ConfigError` for one that fails."""
    worlds = list(dict.fromkeys(name.strip() for name in names.split(",") if name.strip())) or list(SIZES)
    for world in worlds:
        try:
            env = make_world(world, options_of(world, Settings()))
            env.reset(seed=0)
            env.close()
        except Exception as error:
            raise ConfigError(
                f"worlds: {world!r} cannot be used: {error}; built-in ones: {', '.join(WORLDS)}"
            ) from error
    return worlds


def played(worlds: Sequence[str], dialect: bool) -> list[str]:
    """The worlds in the words that a study of the model would have them in: `clerk@en-prose` for no organism."""
    given = (name if name.endswith(DIALECT) or "@" not in name else named(*split(name)) for name in worlds)
    return list(spoken({name: {} for name in given}, dialect))


def needed_of(names: str) -> list[str]:
    """Gates from a comma-separated list. Raises `ConfigError` for any other name."""
    needed = [name.strip().upper() for name in names.split(",") if name.strip()]
    if unknown := [name for name in needed if name not in GATES]:
        raise ConfigError(f"need: there is no gate {unknown[0]!r}; the gates are {', '.join(GATES)}")
    return needed
