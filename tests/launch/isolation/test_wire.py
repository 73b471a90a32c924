"""Messages keep every bit of what hooks exchange, and carry nothing that could run."""

from __future__ import annotations

import io
import json
import pickle
import struct
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from envs.episode import Context, Episode, SealedError
from launch.isolation.wire import WireError, receive, send
from shaping.hooks import ActionDecision, ActivationEdit, AdapterSpec, Credit, Gates, Group, GroupInfo, Knob

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
    max_leaves=10,
)


def there_and_back(value: Any) -> Any:
    stream = io.BytesIO()
    send(stream, value)
    stream.seek(0)
    return receive(stream)


def raw(text: bytes, blob: bytes = b"") -> io.BytesIO:
    return io.BytesIO(struct.pack("<QQ", len(text), len(blob)) + text + blob)


@given(PLAIN)
def test_plain_values_arrive_as_they_were(value: Any) -> None:
    assert repr(there_and_back(value)) == repr(value)


@pytest.mark.parametrize("dtype", ["?", "i1", "u2", "i4", "i8", "f2", "f4", "f8", ">f8"])
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3), (2, 0)])
def test_arrays_keep_type_shape_and_bits(dtype: str, shape: tuple[int, ...]) -> None:
    array = np.asarray(np.arange(np.prod(shape, dtype=int)) * 7 % 3, dtype).reshape(shape)
    back = there_and_back([array, np.zeros_like(array)])[0]
    assert (back.dtype, back.shape, back.tobytes()) == (array.dtype, array.shape, array.tobytes())


def test_nan_and_infinity_arrive_so_that_checks_see_them() -> None:
    back = there_and_back([np.array([np.nan, np.inf]), float("nan")])
    assert np.isnan(back[0][0]) and np.isinf(back[0][1]) and np.isnan(back[1])


def test_an_episode_arrives_whole_but_for_what_is_sealed(make_episode: Any) -> None:
    episode: Episode = make_episode([0.1, 1.0])
    back: Episode = there_and_back(episode)
    with pytest.raises(SealedError):
        back.truth.open()
    for field in fields(Episode):
        if field.name != "truth":
            assert repr(getattr(back, field.name)) == repr(getattr(episode, field.name)), field.name
    assert not back.tokens.flags.writeable


def test_the_records_of_hooks_arrive() -> None:
    records = [
        Context("be kind", "kind"),
        GroupInfo("clerk", 1, 2, 3),
        ActionDecision("mask", ("grab 1",)),
        ActivationEdit(1, "cap", np.ones(4, np.float32), 0.5),
        Gates(0.25, 0.5),
        Knob.GATES,
        Credit("c", advantage=(np.zeros(3, np.float32),)),
        Group((), np.zeros(0), np.zeros(0)),
    ]
    assert repr(there_and_back(records)) == repr(records)
    adapter = AdapterSpec("q", "quarantine", targets=("q_proj",))
    assert there_and_back([adapter]) == [adapter]  # no repr: its sets have no order


def test_a_generator_goes_on_where_it_was() -> None:
    rng = np.random.default_rng(5)
    rng.random(3)
    back = there_and_back(rng)
    assert back.random() == rng.random()


@pytest.mark.parametrize("value", [object(), b"bytes", np.array([object()]), lambda: 0, [{"a": {1: type}}]])
def test_what_is_no_value_is_not_sent(value: Any) -> None:
    stream = io.BytesIO()
    with pytest.raises(WireError):
        send(stream, value)
    assert stream.getvalue() == b""


class Bomb:
    def __reduce__(self) -> Any:
        return exec, ("raise AssertionError('it ran')",)


@pytest.mark.parametrize(
    "message",
    [
        raw(pickle.dumps(Bomb())),
        raw(json.dumps({"record": ["Popen", "ls"]}).encode()),
        raw(json.dumps({"array": ["|O", [1], 0]}).encode(), b"\0" * 8),
        raw(json.dumps({"array": ["<f8", [10**9], 0]}).encode(), b"\0" * 8),
        raw(json.dumps({"array": ["<f8", [-1], 0]}).encode(), b"\0" * 8),
        raw(json.dumps({"enum": ["Knob", "none"]}).encode()),
        raw(json.dumps({"a": 1, "b": 2}).encode()),
        raw(b"[" * 100_000),
        raw(b"1" * 5000),
        io.BytesIO(b"\xff" * 64),
    ],
)
def test_a_message_that_is_none_is_refused_and_runs_nothing(message: io.BytesIO) -> None:
    with pytest.raises(WireError):
        receive(message)


def test_the_end_of_the_stream_is_no_message() -> None:
    with pytest.raises(EOFError):
        receive(io.BytesIO(b"\0" * 7))
