"""The names by which worlds call themselves. Episodes, metrics and reports have these, not the keys of the config."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from launch.config.plugins import build_world
from launch.config.study import RunConfig
from launch.errors import ConfigError
from shaping.audits.played import OWN, TRAIN


def world_names(worlds: Mapping[str, Mapping[str, Any]], where: str) -> dict[str, str]:
    """Key of the config -> name of the world that its class and options make: `mine:Errands` -> `errands`."""
    names: dict[str, str] = {}
    for key, options in worlds.items():
        world = build_world(key, options, where)
        names[key] = str(world.name)
        world.close()
    return names


def trained_worlds(run: RunConfig) -> list[str]:
    """Names of the worlds that a run trains in. A world of the evaluation is held out if no arm trains in its name."""
    return list(dict.fromkeys(world_names(run.train.worlds, "train.worlds").values()))


def check_names(run: RunConfig) -> None:
    """Raise `ConfigError` if two worlds of one cell of the evaluation have one name: their results would be mixed."""
    cells = {"eval.worlds": run.eval.worlds if OWN in run.eval.cells else {}}
    cells["train.worlds"] = run.train.worlds if TRAIN in run.eval.cells else {}
    for where, worlds in cells.items():
        keys: dict[str, str] = {}
        for key, name in world_names(worlds, where).items():
            if (other := keys.setdefault(name, key)) != key:
                raise ConfigError(
                    f"{where}: {other!r} and {key!r} both call themselves {name!r}, so their results would be mixed: "
                    "give the class of yours another `name`"
                )
