"""Episodes as Parquet: one row per episode, typed columns, nothing pickled.

Reading gives back what was written, bit for bit: token arrays keep their types, rewards stay doubles, a redacted
episode stays redacted. Files of versions 1 and 2 are read, too. Options are stored as JSON, so
their values must be JSON values.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from envs.episode import Context, Contexts, Episode, Event, Labels, RolloutStatus, Sealed, SealedError, Span, Turn

FORMAT, VERSION = b"shaping-episodes", b"3"

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
_SPAN = pa.struct([("start", pa.int32()), ("stop", pa.int32())])
_EVENT = pa.struct([("kind", pa.string()), ("name", pa.string()), ("text", pa.string()), ("admits", pa.bool_())])
_CONTEXT = pa.struct([("system", pa.string()), ("name", pa.string())])
_MASKED = pa.struct([("offset", pa.int32()), ("ids", pa.list_(pa.int32()))])
_RENAMED = {
    "sampling": "acting",
    "training": "learning",
    "masked_tokens": "forbidden",
    "overt_shortcuts": "overt",
}
"""Column or field of a turn -> its name in versions 1 and 2."""


def _turn_type(names: Mapping[str, str]) -> pa.StructType:
    fields = [
        *(("observation", pa.string()), ("completion", pa.string()), ("motive", _SPAN), ("action", _SPAN)),
        *(("executed", pa.string()), ("reward", pa.float64()), ("events", pa.list_(_EVENT))),
        *((name, pa.list_(kind)) for name, (kind, _) in _TURN_ARRAYS.items()),
        *(("masked_tokens", pa.list_(_MASKED)), ("overt_shortcuts", pa.list_(pa.string()))),
        *(("rejected", pa.int32()), ("cost", pa.float64())),
    ]
    return pa.struct([(names.get(name, name), kind) for name, kind in fields])


_LABEL_TYPES = {
    **{"opportunity": pa.map_(pa.string(), pa.bool_()), "outcome": pa.string()},
    **{"knew": pa.bool_(), "monitored": pa.bool_()},
}
_SINCE_2 = ("resource_share", "privileges", "unneeded_power", "outcome")
"""Labels that version 1 did not have; they read as 0, or as "" where they are text."""


def _schema(
    version: bytes, without: tuple[str, ...] = (), renamed: Mapping[str, str] = MappingProxyType({})
) -> pa.Schema:
    names = [f.name for f in fields(Labels) if f.name not in without]
    labels = pa.struct([(name, _LABEL_TYPES.get(name, pa.float64())) for name in names])
    columns = [
        *(("world", pa.string()), ("seed", pa.int64()), ("group", pa.int64()), ("arm", pa.string())),
        *(("status", pa.string()), ("sampling", _CONTEXT), ("training", _CONTEXT)),
        *(("turns", pa.list_(_turn_type(renamed))), ("truth", pa.list_(labels))),
        *((name, pa.list_(kind)) for name, (kind, _) in _ARRAYS.items()),
        *(("head", pa.int32()), ("segments", pa.list_(pa.int32())), ("options", pa.string()), ("error", pa.string())),
    ]
    named = [(renamed.get(name, name), kind) for name, kind in columns]
    return pa.schema(named, metadata={b"format": FORMAT, b"version": version})


SCHEMA = _schema(VERSION)
_READABLE = {
    b"1": _schema(b"1", without=_SINCE_2, renamed=_RENAMED),
    b"2": _schema(b"2", renamed=_RENAMED),
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
    """Read what `write_episodes` wrote. Raises `StoreError` for truncated and foreign files."""
    try:
        table = pq.read_table(path, partitioning=None)
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError) as error:
        raise StoreError(
            f"{path}: not a readable Parquet file, probably cut off while it was written ({error})"
        ) from error
    marks = table.schema.metadata or {}
    if marks.get(b"format") != FORMAT:
        raise StoreError(f"{path}: a Parquet file, but not of episodes (no marker {FORMAT.decode()!r} in its schema)")
    known = _READABLE.get(marks.get(b"version", b""))
    if known is None or not table.schema.equals(known):
        found, readable = marks.get(b"version", b"?").decode(), " and ".join(v.decode() for v in _READABLE)
        raise StoreError(f"{path}: episode format {found}, this version reads {readable}; write the file again")
    return [_episode(row if known is SCHEMA else _new_names(row)) for row in table.to_pylist()]


def _new_names(row: dict[str, Any]) -> dict[str, Any]:
    """A row of version 1 or 2 under the names of today."""
    new = {old: name for name, old in _RENAMED.items()}
    row = {new.get(name, name): value for name, value in row.items()}
    return row | {"turns": [{new.get(name, name): value for name, value in turn.items()} for turn in row["turns"]]}


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
    row["options"] = json.dumps(dict(episode.options))
    return row


def _turn_row(turn: Turn) -> dict[str, Any]:
    row = {f.name: getattr(turn, f.name) for f in fields(Turn)}
    row["motive"], row["action"] = turn.motive._asdict(), turn.action._asdict()
    row["events"] = [event._asdict() for event in turn.events]
    row["masked_tokens"] = [{"offset": offset, "ids": list(ids)} for offset, ids in turn.masked_tokens]
    row["overt_shortcuts"] = list(turn.overt_shortcuts)
    return row


def _label_row(labels: Labels) -> dict[str, Any]:
    row = {f.name: getattr(labels, f.name) for f in fields(Labels)}
    row["opportunity"] = list(labels.opportunity.items())
    return row


def _context(context: Context) -> dict[str, str]:
    return {"system": context.system, "name": context.name}


def _episode(row: dict[str, Any]) -> Episode:
    truth = row.pop("truth")
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
            "options": json.loads(row["options"]),
            "contexts": contexts,
        }
    )


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
        }
    )
