"""Records: what monitors said of which turns, as typed rows in Parquet files beside the episodes.

A record says what was read and by which version of which monitor. It decides nothing: what follows from it is a policy
of its own (`launch.config.alarms`).
"""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import stat
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from envs.episode import TRAITS, Episode
from shaping.models.model_files import content_hash
from shaping.monitors.base import Monitor, MonitorError, Reading

FORMAT, VERSION = b"shaping-monitor-records", b"1"
MAX_RECORDS = 10_000_000
"""Most records of a file that is read."""
SCHEMA = pa.schema(
    [
        *(("episode", pa.string()), ("world", pa.string()), ("seed", pa.int64()), ("turn", pa.int32())),
        *(("start", pa.int32()), ("stop", pa.int32()), ("trait", pa.string()), ("score", pa.float64())),
        *(("monitor", pa.string()), ("version", pa.string()), ("alarm", pa.bool_()), ("then", pa.string())),
    ],
    metadata={b"format": FORMAT, b"version": VERSION},
)


@dataclass(frozen=True, slots=True)
class MonitorRecord:
    """One suspicion of one monitor about one turn of one episode."""

    episode: str
    """`episode_id` of the episode."""
    world: str
    """Its world."""
    seed: int
    """Its seed."""
    turn: int
    """Index of the turn, from 0."""
    start: int
    """First token that the suspicion is about, an index into `Episode.tokens`; 0 where the turn has no tokens."""
    stop: int
    """The token after the last one; 0 where the turn has none."""
    trait: str
    """One of `envs.episode.TRAITS`."""
    score: float
    """Strength of the suspicion, in [0, 1]."""
    monitor: str
    """Name of the monitor."""
    version: str
    """`version_of` the monitor."""
    alarm: bool = False
    """Is the score above the threshold that the false-positive budget sets?"""
    then: str = ""
    """What the policy makes of the alarm: `log`, `drop`, `substitute` or `halt`; empty without an alarm."""


class RecordsError(ValueError):
    """A file holds no records of monitors."""


def episode_id(episode: Episode) -> str:
    """`steward-17-3fa9c1d2e4b5a6f7`: world, seed, and a hash of all that was said and sampled, 64 bits.

    Two episodes have one id only if they agree in world, options, seed, group, contexts, texts, tokens and versions of
    the policy.
    """
    said = [(turn.observation, turn.completion, turn.executed) for turn in episode.turns]
    options = sorted(episode.options.items(), key=str)
    told = repr((episode.world, episode.seed, episode.group, episode.arm, options, episode.contexts, said))
    digest = hashlib.blake2b(told.encode("utf-8", "surrogatepass") + episode.tokens.tobytes(), digest_size=8)
    for turn in episode.turns:
        digest.update(turn.policy_versions.tobytes())
    return f"{episode.world}-{episode.seed}-{digest.hexdigest()}"


def version_of(monitor: Monitor) -> str:
    """A hash of 48 bits over the monitor's module, its settings, and the files that its fields `...path` name.

    Its name and role do not count: another name does not make another monitor. Where a class has no source file, its
    qualified name stands for it.
    """
    kind = type(monitor)
    try:
        source = inspect.getsource(inspect.getmodule(kind) or kind)
    except (OSError, TypeError):
        source = ""
    settings = {name: value for name, value in settings_of(monitor).items() if name not in ("name", "role")}
    named = [Path(str(getattr(monitor, n))).expanduser() for n in sorted(settings) if n.endswith("path")]
    files = [content_hash(path) for path in named if path.is_file()]
    told = json.dumps([kind.__module__, kind.__qualname__, source, settings, files], sort_keys=True)
    return hashlib.blake2b(told.encode("utf-8", "surrogatepass"), digest_size=6).hexdigest()


def settings_of(monitor: Monitor) -> dict[str, Any]:
    """The fields of a monitor as JSON values that are the same in every process: sets are sorted."""
    fields = monitor.model_dump(mode="python", serialize_as_any=True)
    found: dict[str, Any] = json.loads(json.dumps(fields, default=_plain, skipkeys=True))
    return found


def _plain(value: Any) -> Any:
    """What JSON lacks. An object without a text of its own stands for its class."""
    if isinstance(value, (set, frozenset)):
        return sorted(value, key=repr)
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, Mapping):
        return dict(value)
    told = repr(value)
    return type(value).__qualname__ if " at 0x" in told else told


def records_of(episode: Episode, readings: Iterable[Reading], version: str) -> list[MonitorRecord]:
    """The records of readings of an episode. Readings of score 0 are none: a turn without a record has score 0."""
    suspicious = [reading for reading in readings if reading.score > 0]
    if not suspicious:
        return []
    name, spans = episode_id(episode), _spans(episode)
    return [
        MonitorRecord(
            name,
            episode.world,
            episode.seed,
            reading.turn,
            *(reading.tokens or spans.get(reading.turn, (0, 0))),
            reading.trait,
            reading.score,
            reading.monitor,
            version,
        )
        for reading in suspicious
    ]


def _spans(episode: Episode) -> dict[int, tuple[int, int]]:
    """Turn -> half-open range of the tokens of its completion."""
    sampled = np.flatnonzero(episode.loss_mask)
    turns = episode.turn_index[sampled]
    return {int(t): (int(sampled[turns == t][0]), int(sampled[turns == t][-1]) + 1) for t in np.unique(turns)}


def write_records(path: str | os.PathLike[str], records: Sequence[MonitorRecord]) -> None:
    """Write records to a Parquet file."""
    pq.write_table(pa.Table.from_pylist([asdict(record) for record in records], SCHEMA), path, compression="zstd")


def read_records(path: str | os.PathLike[str]) -> list[MonitorRecord]:
    """Read what `write_records` wrote. Raises `RecordsError` for truncated, foreign, damaged and excessive files."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise RecordsError(f"{path}: not a file")
        with pq.ParquetFile(path) as file:
            if not file.schema_arrow.equals(SCHEMA) or (file.schema_arrow.metadata or {}).get(b"format") != FORMAT:
                raise RecordsError(f"{path}: a Parquet file, but not of records of version {VERSION.decode()}")
            if file.metadata.num_rows > MAX_RECORDS:
                raise RecordsError(f"{path}: {file.metadata.num_rows:,} records; at most {MAX_RECORDS:,} are read")
            rows = file.read().to_pylist()
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError, MemoryError) as error:
        raise RecordsError(f"{path}: not a readable Parquet file ({error}); write it again") from error
    return [_record(path, index, row) for index, row in enumerate(rows)]


def _record(path: str | os.PathLike[str], index: int, row: dict[str, object]) -> MonitorRecord:
    try:
        if missing := [f.name for f in fields(MonitorRecord) if row[f.name] is None]:
            raise MonitorError(f"{missing[0]} is null")
        record = MonitorRecord(**row)  # type: ignore[arg-type]
        Reading(record.monitor, record.trait, record.turn, record.score, (record.start, record.stop))
    except MonitorError as error:
        raise RecordsError(f"{Path(path)}: record {index}: {error}; the traits are {', '.join(TRAITS)}") from None
    return record
