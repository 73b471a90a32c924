"""What monitors said of a file's episodes: their stored records, or what cheap monitors say when they read it now."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from envs.episode import TRAITS, Episode
from launch.storage.seals import RECORDS
from launch.viewer.index.schema import READ, STORED
from launch.viewer.sources import EpisodeFile
from shaping.monitors.base import Monitor, MonitorError
from shaping.monitors.claim_check import ClaimCheck
from shaping.monitors.motive_check import MotiveCheck
from shaping.monitors.overt_action import OvertAction
from shaping.monitors.records import episode_id
from shaping.monitors.turn_scores import suspected, turn_scores

USUAL: tuple[Callable[[], Monitor], ...] = (ClaimCheck, MotiveCheck, OvertAction)
"""Monitors that read a file without records, unless others are named."""
MAX_RECORDS = 1_000_000
_NEEDED = {
    **{"episode": pa.string(), "turn": pa.int32(), "start": pa.int32(), "stop": pa.int32()},
    **{"trait": pa.string(), "score": pa.float64(), "monitor": pa.string()},
}
Said = tuple[int, str, int, float, int | None, int | None]
"""(row of the episode, trait, turn, score, first token or None, token after the last or None)"""


class Readings(dict[str, tuple[str, tuple[str, ...], list[Said]]]):
    """Monitor -> (where its scores come from, the traits it suspects, what it said)."""


def has_records(file: EpisodeFile) -> bool:
    """Are there records of monitors beside the file?"""
    return _records(file).is_file()


def _records(file: EpisodeFile) -> Path:
    return Path(file.path).parent / RECORDS / f"{file.name}.parquet"


def readings_of(
    file: EpisodeFile, episodes: Sequence[Episode], monitors: Sequence[Monitor] | None
) -> tuple[Readings, list[str]]:
    """Stored records of a file and, if there are none or monitors are named, what monitors say now. And problems.

    Args:
        file: The file of the episodes.
        episodes: Its episodes, in order.
        monitors: Those to read with; None: the usual ones, where nothing is stored.
    """
    path, problems = _records(file), []
    found, stored = Readings(), path.is_file()
    try:
        found = _stored(path, episodes) if stored else found
    except (ValueError, MemoryError) as error:
        problems.append(str(error))
    chosen = list(monitors) if monitors is not None else [] if stored else [make() for make in USUAL]
    for monitor in chosen:
        try:
            found[monitor.name] = _read_now(monitor, episodes)
        except Exception as error:  # plug-ins raise anything
            problems.append(
                f"monitor {monitor.name!r} fails on {file.arm}/{file.name}: {type(error).__name__}: {error}"
            )
    return found, problems


def _read_now(monitor: Monitor, episodes: Sequence[Episode]) -> tuple[str, tuple[str, ...], list[Said]]:
    if not monitor.cheap or monitor.captures():
        raise MonitorError("it needs a model, which the viewer does not run; store its records instead")
    said: list[Said] = []
    for row, episode in enumerate(episodes):
        for trait, scores in turn_scores(monitor, episode).items():
            said += [(row, trait, turn, float(score), None, None) for turn, score in enumerate(scores) if score > 0]
    return READ, tuple(suspected(monitor)), said


def _stored(path: Path, episodes: Sequence[Episode]) -> Readings:
    """The records of a file by monitor. Raises `ValueError` if it holds none, or values that are none."""
    try:
        with pq.ParquetFile(path) as file:
            schema = file.schema_arrow
            if any(name not in schema.names or schema.field(name).type != kind for name, kind in _NEEDED.items()):
                raise ValueError(f"{RECORDS}/{path.name} holds no records of monitors: it lacks one of their columns")
            if file.metadata.num_rows > MAX_RECORDS:
                raise ValueError(f"{RECORDS}/{path.name} has {file.metadata.num_rows:,} records, over {MAX_RECORDS:,}")
            table = file.read(columns=list(_NEEDED))
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{RECORDS}/{path.name} cannot be read ({str(error)[:200]})") from error
    rows = {episode_id(episode): row for row, episode in enumerate(episodes)}
    found = Readings()
    for line in table.to_pylist():
        if (row := rows.get(line["episode"])) is None:
            continue  # of an episode that was played but not kept
        source, traits, said = found.get(line["monitor"], (STORED, (), []))
        said.append(_checked(path, line, row, episodes[row]))
        found[line["monitor"]] = (source, tuple(dict.fromkeys([*traits, line["trait"]])), said)
    return found


def _checked(path: Path, line: dict[str, Any], row: int, episode: Episode) -> Said:
    turn, score, trait, first, stop = (line[key] for key in ("turn", "score", "trait", "start", "stop"))
    sound = None not in (turn, score, first, stop) and 0 <= turn < len(episode.turns) and 0 <= score <= 1
    if not sound or trait not in TRAITS or not 0 <= first <= stop <= len(episode.tokens):
        raise ValueError(f"{RECORDS}/{path.name}: a record of turn {turn} has the trait {trait!r:.40}, score {score}")
    return (row, trait, turn, score, first, stop)


def named_monitors(names: Sequence[str]) -> list[Monitor] | None:
    """The monitors of these names, with their usual settings; `none` for no monitor. None without names.

    Raises `launch.errors.UserError` for a name that is none, or a monitor that needs settings.
    """
    if not names:
        return None
    if list(names) == ["none"]:
        return []
    from launch.config.plugins import MONITOR, find_class
    from launch.errors import UserError

    found: list[Monitor] = []
    for name in names:
        try:
            found.append(find_class(name, MONITOR)())
        except (TypeError, ValueError) as error:
            raise UserError(
                f"--monitor {name}: it cannot be made without settings ({str(error).splitlines()[0]}); list it in "
                "eval.monitors of the study, whose records the viewer shows"
            ) from None
    return found
