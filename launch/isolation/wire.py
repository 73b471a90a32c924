"""Messages between a run and an isolated plug-in: JSON and the bytes of arrays, never pickles.

Only records of the closed list `RECORDS` can be read, so that nothing that a plug-in sends can make code run here.
Numbers keep every bit. Sealed labels cannot be written: an episode arrives redacted, whatever it was.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from dataclasses import fields
from enum import Enum
from typing import IO, Any, Protocol

import numpy as np

from envs.episode import Context, Contexts, Episode, Event, Forced, RolloutStatus, Sealed, Span, Turn
from shaping.hooks import (
    ActionDecision,
    ActivationEdit,
    Activations,
    AdapterSpec,
    Capture,
    Credit,
    Gates,
    Group,
    GroupInfo,
    Knob,
    NormAlarm,
    Prefill,
    Rehearsal,
    Subspace,
    TurnContext,
    UpdateReport,
)

RECORDS: Mapping[str, type] = {
    kind.__name__: kind
    for kind in (
        *(Context, Contexts, Episode, Event, Forced, Span, Turn),
        *(ActionDecision, ActivationEdit, AdapterSpec, Capture, Credit, Gates, Group, GroupInfo, Prefill, TurnContext),
        *(Activations, NormAlarm, Rehearsal, Subspace, UpdateReport),
    )
}
"""Classes that may be written and read: plain data, whose constructors do nothing but check."""
ENUMS: Mapping[str, type[Enum]] = {kind.__name__: kind for kind in (RolloutStatus, Knob)}
LONGEST = 1 << 30
"""Bytes of one message; above that it is refused."""
_KINDS = "biuf"
"""Kinds of numpy types that may be written: booleans, integers and floating-point numbers."""
_HEAD = struct.Struct("<QQ")
_GENERATORS = ("PCG64", "PCG64DXSM", "MT19937", "Philox", "SFC64")


class WireError(ValueError):
    """A value that cannot be sent, or a message that cannot be read."""


def encoded(message: Any) -> bytes:
    """One message as bytes. Raises `WireError` if a part of it cannot be sent."""
    arrays: list[bytes] = []
    text = json.dumps(_packed(message, arrays)).encode("ascii")
    blob = b"".join(arrays)
    if len(text) + len(blob) > LONGEST:
        raise WireError(f"a message of {len(text) + len(blob):,} bytes; at most {LONGEST:,} can be sent")
    return _HEAD.pack(len(text), len(blob)) + text + blob


def send(stream: IO[bytes], message: Any) -> None:
    """Write one message; nothing of it if it cannot be sent."""
    stream.write(encoded(message))
    stream.flush()


class Readable(Protocol):
    """Gives bytes; fewer than asked only at its end."""

    def read(self, size: int, /) -> bytes: ...


def receive(stream: Readable) -> Any:
    """Read one message. Raises `EOFError` if there is none, and `WireError` if it cannot be read."""
    text_size, blob_size = _HEAD.unpack(_exactly(stream, _HEAD.size))
    if text_size + blob_size > LONGEST:
        raise WireError(f"a message of {text_size + blob_size:,} bytes; at most {LONGEST:,} are read")
    text, blob = _exactly(stream, text_size), _exactly(stream, blob_size)
    try:
        return _unpacked(json.loads(text), memoryview(blob))
    except WireError:
        raise
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError, OverflowError) as error:
        raise WireError(f"a message that is none of ours: {error}") from error


def _exactly(stream: Readable, size: int) -> bytes:
    read = stream.read(size)
    if len(read) < size:
        raise EOFError
    return read


def _packed(value: Any, arrays: list[bytes]) -> Any:
    """The value as JSON: numbers, texts and lists as they are, everything else as {kind: content}."""
    if isinstance(value, (RolloutStatus, Knob)):  # before texts: these are texts, too
        return {"enum": [type(value).__name__, value.value]}
    if value is None or isinstance(value, (bool, str)) or type(value) in (int, float):
        return value
    if isinstance(value, (int, float)):
        return value + 0
    if isinstance(value, np.generic):
        return _packed(value.item(), arrays)
    if isinstance(value, Sealed):
        return {"sealed": []}
    if (name := _record_name(value)) is not None:
        return {"record": [name, *(_packed(getattr(value, field), arrays) for field in _field_names(RECORDS[name]))]}
    if isinstance(value, list):
        return [_packed(item, arrays) for item in value]
    if isinstance(value, (tuple, frozenset, set)):
        return {"tuple" if isinstance(value, tuple) else "set": [_packed(item, arrays) for item in value]}
    if isinstance(value, Mapping):
        return {"map": [[_packed(key, arrays), _packed(item, arrays)] for key, item in value.items()]}
    if isinstance(value, np.random.Generator):
        return {"generator": _packed(generator_state(value), arrays)}
    if hasattr(value, "__array__"):
        return _packed_array(np.asarray(value), arrays)
    raise WireError(f"{type(value).__name__} cannot be sent: only numbers, texts, arrays and the records of hooks can")


def _packed_array(array: np.ndarray, arrays: list[bytes]) -> Any:
    if array.dtype.kind not in _KINDS:
        raise WireError(f"an array of {array.dtype} cannot be sent: only numbers can")
    arrays.append(np.ascontiguousarray(array).tobytes())
    return {"array": [array.dtype.str, list(array.shape), sum(map(len, arrays[:-1]))]}


def _record_name(value: Any) -> str | None:
    return next((name for name, kind in RECORDS.items() if isinstance(value, kind)), None)


def _field_names(kind: type) -> tuple[str, ...]:
    named: tuple[str, ...] | None = getattr(kind, "_fields", None)
    return named if named is not None else tuple(field.name for field in fields(kind))


def _unpacked(value: Any, blob: memoryview) -> Any:
    if isinstance(value, list):
        return [_unpacked(item, blob) for item in value]
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "array":
        return _array(content, blob)
    if kind == "enum":
        return ENUMS[content[0]](content[1])
    if kind == "sealed":
        return Sealed(None, redacted=True)
    if kind == "generator":
        return generator(_unpacked(content, blob))
    if kind == "map":
        return {_unpacked(key, blob): _unpacked(item, blob) for key, item in content}
    if kind == "record":
        return RECORDS[content[0]](*(_unpacked(item, blob) for item in content[1:]))
    return {"tuple": tuple, "set": frozenset}[kind](_unpacked(item, blob) for item in content)


def _array(content: Any, blob: memoryview) -> np.ndarray:
    dtype, shape, start = np.dtype(content[0]), tuple(map(int, content[1])), int(content[2])
    if dtype.kind not in _KINDS or start < 0 or any(size < 0 for size in shape):
        raise WireError(f"an array of {dtype} is not read")
    count = math.prod(shape)
    return np.frombuffer(blob, dtype, count, start).reshape(shape).copy() if count else np.zeros(shape, dtype)


def generator_state(rng: np.random.Generator) -> dict[str, Any]:
    """The state of a random generator."""
    return dict(rng.bit_generator.state)


def generator(state: Any) -> np.random.Generator:
    """A generator with this state. Raises `WireError` if it is none of numpy's."""
    name = state["bit_generator"]
    if name not in _GENERATORS:
        raise WireError(f"{name!r} is no random generator of numpy")
    made = getattr(np.random, name)(0)
    made.state = state
    return np.random.Generator(made)
