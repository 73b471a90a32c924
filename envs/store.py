"""Episodes as Parquet: one row per episode, typed columns, nothing pickled.

Reading gives back what was written, bit for bit: token arrays keep their types, rewards stay doubles, a redacted
episode stays redacted. Files of all older versions are read, too. Options are stored as JSON, so their
values must be JSON values.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from envs.episode import (
    Context,
    Contexts,
    Episode,
    Event,
    Forced,
    Labels,
    RolloutStatus,
    Sealed,
    SealedError,
    Span,
    Turn,
)

FORMAT, VERSION = b"shaping-episodes", b"6"
MAX_EPISODES, MAX_BYTES, MAX_EPISODE_BYTES = 1_000_000, 2 << 30, 64 << 20
"""Most episodes of a file, and most bytes of a file and of an episode in memory: hundreds of thousands of tokens."""
BATCH = 64
"""Episodes that become Python objects at once."""

_ARRAYS = {
    "tokens": (pa.int32(), np.int32),
    "loss_mask": (pa.bool_(), np.bool_),
    "span_kind": (pa.int8(), np.int8),
    "turn_index": (pa.int16(), np.int16),
    "logprobs": (pa.float32(), np.float32),
}
_TURN_ARRAYS = {
    "tokens": (pa.int32(), np.int32),
    "logprobs": (pa.float32(), np.float32),
    "policy_versions": (pa.int32(), np.int32),
}
_WIDTHS = {"INT32": 4, "FLOAT": 4, "INT64": 8, "DOUBLE": 8, "BYTE_ARRAY": 4}
"""Bytes of a value in memory; of a text those of a reference to it."""
_SPAN = pa.struct([("start", pa.int32()), ("stop", pa.int32())])
_EVENT = pa.struct([("kind", pa.string()), ("name", pa.string()), ("text", pa.string()), ("admits", pa.bool_())])
_CONTEXT = pa.struct([("system", pa.string()), ("name", pa.string())])
_MASKED = pa.struct([("offset", pa.int32()), ("ids", pa.list_(pa.int32()))])
_FORCED = pa.struct(
    [
        *(("name", pa.string()), ("length", pa.int32()), ("stripped", pa.bool_()), ("corrected", pa.bool_())),
        ("proposal", pa.float64()),
    ]
)
_RENAMED = {
    "sampling": "acting",
    "training": "learning",
    "masked_tokens": "forbidden",
    "overt_shortcuts": "overt",
}
"""Column or field of a turn -> its name in versions 1 and 2."""


def _turn_type(names: Mapping[str, str], *, cost: bool, overlong: bool, forced: bool) -> pa.StructType:
    fields = [
        *(("observation", pa.string()), ("completion", pa.string()), ("motive", _SPAN), ("action", _SPAN)),
        *(("executed", pa.string()), ("reward", pa.float64()), ("events", pa.list_(_EVENT))),
        *((name, pa.list_(kind)) for name, (kind, _) in _TURN_ARRAYS.items()),
        *(("masked_tokens", pa.list_(_MASKED)), ("overt_shortcuts", pa.list_(pa.string()))),
        ("rejected", pa.int32()),
        *([("cost", pa.float64())] if cost else []),
        *([("overlong", pa.bool_())] if overlong else []),
        *([("forced", _FORCED)] if forced else []),
    ]
    return pa.struct([(names.get(name, name), kind) for name, kind in fields])


_LABEL_TYPES = {
    **{"opportunity": pa.map_(pa.string(), pa.bool_()), "outcome": pa.string()},
    **{"knew": pa.bool_(), "monitored": pa.bool_()},
}
_SINCE_2 = ("resource_share", "privileges", "unneeded_power", "outcome")
"""Labels that version 1 did not have; they read as 0, or as "" where they are text."""


def _schema(
    version: bytes,
    *,
    without: tuple[str, ...] = (),
    renamed: Mapping[str, str] = MappingProxyType({}),
    cost: bool = False,
    overlong: bool = False,
    forced: bool = False,
) -> pa.Schema:
    """Columns of a version. Fields of turns: `cost`, which none ever filled; `overlong` since 5; `forced` since 6."""
    names = [f.name for f in fields(Labels) if f.name not in without]
    labels = pa.struct([(name, _LABEL_TYPES.get(name, pa.float64())) for name in names])
    columns = [
        *(("world", pa.string()), ("seed", pa.int64()), ("group", pa.int64()), ("arm", pa.string())),
        *(("status", pa.string()), ("sampling", _CONTEXT), ("training", _CONTEXT)),
        *(
            ("turns", pa.list_(_turn_type(renamed, cost=cost, overlong=overlong, forced=forced))),
            ("truth", pa.list_(labels)),
        ),
        *((name, pa.list_(kind)) for name, (kind, _) in _ARRAYS.items()),
        *(("head", pa.int32()), ("segments", pa.list_(pa.int32())), ("options", pa.string()), ("error", pa.string())),
    ]
    named = [(renamed.get(name, name), kind) for name, kind in columns]
    return pa.schema(named, metadata={b"format": FORMAT, b"version": version})


SCHEMA = _schema(VERSION, overlong=True, forced=True)
_READABLE = {
    b"1": _schema(b"1", without=_SINCE_2, renamed=_RENAMED, cost=True),
    b"2": _schema(b"2", renamed=_RENAMED, cost=True),
    b"3": _schema(b"3", cost=True),
    b"4": _schema(b"4"),
    b"5": _schema(b"5", overlong=True),
    VERSION: SCHEMA,
}
"""Version -> the schema of its files."""


class StoreError(ValueError):
    """A file is not an episode file of this framework, or only half of one."""


def write_episodes(path: str | os.PathLike[str], episodes: Iterable[Episode]) -> None:
    """Write episodes to a Parquet file; a file of that name is replaced only when the new one is complete."""
    target = Path(path)
    partial = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        pq.write_table(pa.Table.from_pylist([_row(e) for e in episodes], SCHEMA), partial, compression="zstd")
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)


def read_episodes(path: str | os.PathLike[str]) -> list[Episode]:
    """Read what `write_episodes` wrote. Raises `StoreError` for truncated, foreign, damaged and excessive files."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # opening a pipe would wait for somebody to write
            raise StoreError(f"{path}: not a file")
        with pq.ParquetFile(path) as file:
            known = known_schema(file.schema_arrow)
            refuse_excess(file.metadata)
            found, texts = file.metadata, _texts(file.schema)
        # Texts stay as they are stored, each once with references to it: a file of kilobytes can refer to gigabytes.
        with pq.ParquetFile(path, metadata=found, read_dictionary=texts) as file:
            return list(_episodes(file.iter_batches(batch_size=BATCH, use_threads=False), known))
    except FileNotFoundError:
        raise
    except StoreError as error:
        raise StoreError(f"{path}: {error}") from error.__cause__
    except (pa.ArrowException, OSError, MemoryError) as error:
        raise StoreError(
            f"{path}: not a readable Parquet file, probably cut off while it was written ({error})"
        ) from error


def known_schema(schema: pa.Schema) -> pa.Schema:
    """The schema of this version or of an earlier one. Raises `StoreError` for any other."""
    marks = schema.metadata or {}
    if marks.get(b"format") != FORMAT:
        raise StoreError(f"a Parquet file, but not of episodes (no marker {FORMAT.decode()!r} in its schema)")
    known = _READABLE.get(marks.get(b"version", b""))
    if known is None or not schema.equals(known):
        found, readable = marks.get(b"version", b"?").decode(), " and ".join(v.decode() for v in _READABLE)
        raise StoreError(f"episode format {found}, this version reads {readable}; write the file again")
    return known


def refuse_excess(found: pq.FileMetaData, parts: tuple[str, ...] = ("",)) -> None:
    """Look at the sizes that a file states before any of it is unpacked: few bytes can stand for many equal values.

    `parts` are how the paths of the columns begin that are to be read. Raises `StoreError`.
    """
    groups = [found.row_group(index) for index in range(found.num_row_groups)]
    columns = [group.column(index) for group in groups for index in range(group.num_columns)]
    columns = [column for column in columns if column.path_in_schema.startswith(parts)]
    size = sum(max(c.total_uncompressed_size, c.num_values * _WIDTHS.get(c.physical_type, 1)) for c in columns)
    if found.num_rows > MAX_EPISODES or size > MAX_BYTES:
        raise StoreError(
            f"{found.num_rows:,} episodes and {size:,} bytes when unpacked; at most {MAX_EPISODES:,} and "
            f"{MAX_BYTES:,} are read"
        )


def _texts(schema: pq.ParquetSchema) -> list[str]:
    columns = (schema.column(index) for index in range(len(schema)))
    return [column.path for column in columns if column.physical_type == "BYTE_ARRAY"]


def _episodes(batches: Iterable[pa.RecordBatch], known: pa.Schema) -> Iterator[Episode]:
    first = size = 0
    for batch in batches:
        weight = episode_bytes(batch)
        size += weight
        step = BATCH if weight <= MAX_EPISODE_BYTES else 1
        for start in range(0, len(batch), step):
            rows = batch.slice(start, step)
            if size > MAX_BYTES or (step == 1 and episode_bytes(rows) > MAX_EPISODE_BYTES):
                raise StoreError(
                    f"episode {first + start}: more than {MAX_EPISODE_BYTES:,} bytes in one episode, or {MAX_BYTES:,} "
                    "in all"
                )
            yield from _converted(rows, first + start, known)
        first += len(batch)


def episode_bytes(rows: pa.RecordBatch) -> int:
    """Bytes that rows take up once every reference to a text has become the text."""
    return sum(map(_weight, rows.columns))


def _weight(column: pa.Array) -> int:
    kind = column.type
    if pa.types.is_dictionary(kind):
        lengths = pc.binary_length(column.dictionary).cast(pa.int64())
        return pc.sum(lengths.take(column.indices)).as_py() or 0
    if pa.types.is_struct(kind) or pa.types.is_list(kind) or pa.types.is_map(kind):
        return 8 * len(column) + sum(_weight(part) for _, part in _parts(column))
    return column.nbytes


def _converted(rows: pa.RecordBatch, first: int, known: pa.Schema) -> Iterator[Episode]:
    for name, column in zip(rows.schema.names, rows.columns, strict=True):
        if where := _null(column.drop_null() if name == "truth" else column, name):
            raise StoreError(f"one of the {len(rows)} episodes from {first} on has no {where}: it is null")
    for index, row in enumerate(rows.to_pylist(), start=first):
        try:
            yield _episode(row if known is SCHEMA else _new_names(row))
        except (ValueError, TypeError, RecursionError) as error:
            raise StoreError(f"episode {index}: {error}") from error


def _null(column: pa.Array, name: str) -> str:
    """The part of a column that has nulls, or "". Nothing that is written is ever null but a sealed truth."""
    if column.null_count or (pa.types.is_dictionary(column.type) and column.dictionary.null_count):
        return name
    return next((found for part, values in _parts(column) if (found := _null(values, f"{name}.{part}"))), "")


def _parts(column: pa.Array) -> list[tuple[str, pa.Array]]:
    """What a nested column consists of, as far as its own rows go."""
    kind = column.type
    if pa.types.is_struct(kind):
        return [(kind.field(index).name, column.field(index)) for index in range(kind.num_fields)]
    if pa.types.is_map(kind):
        parts = (("key", column.keys), ("value", column.items))
        return [(name, pa.ListArray.from_arrays(column.offsets, values).flatten()) for name, values in parts]
    return [("element", column.flatten())] if pa.types.is_list(kind) else []


def _new_names(row: dict[str, Any]) -> dict[str, Any]:
    """A row of an older version under the names of today."""
    new = {old: name for name, old in _RENAMED.items()}
    row = {new.get(name, name): value for name, value in row.items()}
    turns = [{new.get(n, n): value for n, value in turn.items() if n != "cost"} for turn in row["turns"]]
    return row | {"turns": turns}


def _row(episode: Episode) -> dict[str, Any]:
    row: dict[str, Any] = {name: getattr(episode, name) for name in ("world", "seed", "group", "arm", "head", "error")}
    row |= {name: np.asarray(getattr(episode, name), dtype) for name, (_, dtype) in _ARRAYS.items()}
    row["status"] = episode.status.value
    row["sampling"], row["training"] = _context(episode.contexts.sampling), _context(episode.contexts.training)
    row["turns"] = [_turn_row(turn) for turn in episode.turns]
    try:
        row["truth"] = [_label_row(labels) for labels in episode.truth.open()]
    except SealedError:  # a redacted copy: its truth is null
        row["truth"] = None
    row["segments"] = list(episode.segments)
    row["options"] = json.dumps(dict(episode.options), default=dict)  # nested options are proxies
    return row


def _turn_row(turn: Turn) -> dict[str, Any]:
    row = {f.name: getattr(turn, f.name) for f in fields(Turn)}
    row["motive"], row["action"] = turn.motive._asdict(), turn.action._asdict()
    row["events"] = [event._asdict() for event in turn.events]
    row["masked_tokens"] = [{"offset": offset, "ids": list(ids)} for offset, ids in turn.masked_tokens]
    row["overt_shortcuts"] = list(turn.overt_shortcuts)
    row["forced"] = turn.forced._asdict()
    return row


def _label_row(labels: Labels) -> dict[str, Any]:
    row = {f.name: getattr(labels, f.name) for f in fields(Labels)}
    row["opportunity"] = list(labels.opportunity.items())
    return row


def _context(context: Context) -> dict[str, str]:
    return {"system": context.system, "name": context.name}


def _episode(row: dict[str, Any]) -> Episode:
    truth = row.pop("truth")
    if truth is not None and len(truth) != len(row["turns"]):
        raise StoreError(f"{len(row['turns'])} turns and the truth of {len(truth)}")
    labels = None if truth is None else tuple(Labels(**{**r, "opportunity": dict(r["opportunity"])}) for r in truth)
    contexts = Contexts(Context(**row.pop("sampling")), Context(**row.pop("training")))
    row |= {name: np.array(row[name], dtype) for name, (_, dtype) in _ARRAYS.items()}
    return Episode(
        **{
            **row,
            "status": RolloutStatus(row["status"]),
            "turns": tuple(_turn(turn) for turn in row["turns"]),
            "truth": Sealed(labels, redacted=labels is None),
            "segments": tuple(row["segments"]),
            "options": _options(row["options"]),
            "contexts": contexts,
        }
    )


def _options(text: str) -> dict[str, Any]:
    options = json.loads(text)
    if not isinstance(options, dict):
        raise StoreError(f"options are a mapping, not {type(options).__name__}")
    return options


def _turn(row: Mapping[str, Any]) -> Turn:
    arrays = {name: np.array(row[name], dtype) for name, (_, dtype) in _TURN_ARRAYS.items()}
    return Turn(
        **{
            **row,
            **arrays,
            "motive": Span(**row["motive"]),
            "action": Span(**row["action"]),
            "events": tuple(Event(**event) for event in row["events"]),
            "masked_tokens": tuple((item["offset"], tuple(item["ids"])) for item in row["masked_tokens"]),
            "overt_shortcuts": tuple(row["overt_shortcuts"]),
            "forced": Forced(**row["forced"]) if "forced" in row else Forced(),
        }
    )
