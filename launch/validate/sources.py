"""Where labelled episodes come from: scripted players, a model, and runs, also those trained against a monitor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from envs.episode import Episode, SealedError
from envs.skins.locales import split
from envs.store import StoreError
from envs.text import message_of
from launch.config.plugins import WORLD, build_world, find_class
from launch.errors import UserError
from launch.report.files.episode_files import EpisodeFiles
from launch.run.seeds import derive
from launch.storage.finished import finished_run
from launch.storage.rundir import RunDirectory
from shaping.monitors.base import Monitor
from shaping.monitors.records import version_of
from shaping.monitors.validation.judge import Origin
from shaping.monitors.validation.scripted import play_scripted_episodes, players_of


@dataclass
class Labelled:
    """Episodes with unsealed labels, and where each comes from."""

    episodes: list[Episode] = field(default_factory=list)
    """The episodes."""
    origins: list[Origin] = field(default_factory=list)
    """Where they come from, shape [episodes]."""

    def add(self, episodes: Sequence[Episode], origin: Origin) -> None:
        self.episodes += episodes
        self.origins += [origin] * len(episodes)

    def extend(self, other: Labelled) -> None:
        """Add those of another one."""
        self.episodes += other.episodes
        self.origins += other.origins


def world_options(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """`given`, and questions in a fifth of the turns where a world can ask and nothing else is said."""
    from envs.options import declared_options

    declared = declared_options(find_class(name.partition("@")[0], WORLD))
    return {**({"inquiry": 0.2} if "inquiry" in declared.names else {}), **given}


def scripted(name: str, options: Mapping[str, Any], episodes: int) -> Labelled:
    """`episodes` episodes of every scripted player of a world; players and locales meet the same seeds."""
    found = Labelled()
    world = build_world(name, options, "world")
    try:
        seeds = [derive("validate", name.partition("@")[0], number) for number in range(episodes)]
        for player, (conduct, make) in players_of(world).items():
            try:
                played = play_scripted_episodes(world, make, player, seeds)
            except Exception as error:  # a world or policies of one's own may raise whatever they like
                raise UserError(
                    f"world {name}: the scripted player {player!r} failed: {type(error).__name__}: {message_of(error)}"
                ) from error
            found.add(played, Origin(player, conduct))
    finally:
        world.close()
    return found


def of_run(path: Path, world: str, monitor: Monitor) -> dict[str, Labelled]:
    """Locale -> the evaluation of a finished run in a world. Raises `UserError` if it has none, or no labels."""
    directory = finished_run(path)
    file = directory.path / "episodes" / "eval.parquet"
    try:
        episodes = [e for e in EpisodeFiles([file])(file) if not e.status.is_error and e.turns]
    except FileNotFoundError:
        raise UserError(f"{path}: it has no episodes/eval.parquet; run its study again, which completes it") from None
    except StoreError as error:
        raise UserError(f"--run: {error}; give a run of this framework, or make its evaluation again") from None
    here = [e for e in episodes if split(e.world)[0] == world]
    if not here:
        others = ", ".join(sorted({split(e.world)[0] for e in episodes})) or "no world"
        raise UserError(f"{path}: it was evaluated in {others}, not in {world}; give --world one of them")
    try:
        for episode in here:
            episode.truth.open()
    except SealedError:
        raise UserError(f"{file}: its labels are sealed, so that no monitor can be judged by them") from None
    origin, found = _origin(directory, monitor), dict[str, Labelled]()
    for episode in here:
        found.setdefault(split(episode.world)[1], Labelled()).add([episode], origin)
    return found


def _origin(directory: RunDirectory, monitor: Monitor) -> Origin:
    """A run trained against a monitor of the same class is an adversary."""
    result = directory.result() or {}
    name = f"{result.get('arm')}, seed {result.get('seed')}"
    spent = [str(each) for each in result.get("spent_monitors") or ()]
    if not spent:
        return Origin(name, "checkpoint")
    kind = type(monitor)
    about = result.get("monitors") or {}
    records = [about.get(each) or {} for each in spent]
    same = [record.get("use") == f"{kind.__module__}:{kind.__qualname__}" for record in records]
    itself = any(record.get("version") == version_of(monitor) for record in records)
    note = f"trained against {', '.join(spent)}" + (", which is this monitor" if itself else "")
    return Origin(name, "adversary" if any(same) or monitor.name in spent else "checkpoint", note)
