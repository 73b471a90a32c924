"""Numbers are written as numbers and booleans as true or false, in every part of a study."""

from __future__ import annotations

from pydantic import BaseModel

from launch.config.reading.conversions import conversions


class _Inner(BaseModel):
    rate: float = 0.0
    count: int = 0
    on: bool = False
    text: str = ""
    either: bool | int = False


class _Outer(BaseModel):
    inner: _Inner = _Inner()
    many: tuple[int, ...] = ()
    named: dict[str, float] = {}


def found(document: object) -> list[str]:
    return [line.partition(":")[0] for line in conversions(document, _Outer.model_validate(document))]


def test_what_is_written_as_it_is_read_passes() -> None:
    inner = {"rate": 1, "count": 2.0, "on": True, "text": "7", "either": True}
    assert not found({"inner": inner, "many": [1, 2], "named": {"a": 1}})


def test_whatever_is_converted_is_named_with_its_key() -> None:
    inner = {"rate": True, "count": "4", "on": "yes"}
    wrong = {"inner": inner, "many": [1, True], "named": {"a.b": "0.5"}}
    assert found(wrong) == ["inner.rate", "inner.count", "inner.on", "many.1", "named.a.b"]
    assert found({"inner": {"on": 1}}) == ["inner.on"]
