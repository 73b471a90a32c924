"""YAML by version 1.2: what is read as what, and the line, column and key of what is not read."""

from __future__ import annotations

from typing import Any

import pytest

from launch.config.reading.yaml_reader import MAX_CHARACTERS, MAX_DEPTH, read_yaml
from launch.errors import ConfigError


def told(text: str) -> str:
    with pytest.raises(ConfigError) as raised:
        read_yaml(text, "mine.yaml")
    assert "\n" not in str(raised.value)
    return str(raised.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("12", 12), ("-3", -3), ("+5", 5), ("0", 0), ("0o17", 15), ("0x1F", 31),
        ("1.5", 1.5), (".5", 0.5), ("1.", 1.0), ("1e3", 1000.0), ("-1E-4", -1e-4), ("4.0e-4", 4e-4),
        ("true", True), ("False", False), ("~", None), ("null", None), ("", None),
        ("yes", "yes"), ("no", "no"), ("on", "on"), ("off", "off"), ("y", "y"),
        ("1:30", "1:30"), ("1_000", "1_000"), ("0b11", "0b11"), ("2024-01-01", "2024-01-01"), ("=", "="),
        ("'5'", "5"), ('"010"', "010"), ("!!str 5", "5"), ("'<<'", "<<"),
    ],
)  # fmt: skip
def test_scalars_are_read_by_the_core_schema(text: str, value: Any) -> None:
    read = read_yaml(f"key: {text}", "mine.yaml").value["key"]
    assert (type(read), read) == (type(value), value)


def test_merge_keys_add_what_is_not_said() -> None:
    text = "base: &b {lr: 1, epochs: 2}\na: {<<: *b, lr: 3}\nb: {lr: 4, <<: [*b, {epochs: 5, kl: 6}]}\nc: {'<<': 1}"
    assert read_yaml(text, "mine.yaml").value == {
        "base": {"lr": 1, "epochs": 2},
        "a": {"lr": 3, "epochs": 2},
        "b": {"lr": 4, "epochs": 2, "kl": 6},
        "c": {"<<": 1},
    }


def test_values_know_their_lines() -> None:
    lines = read_yaml("a: 1\nb:\n  - c: 2\n    d:\n      3\n", "mine.yaml").lines
    assert {key: lines[key] for key in ("a", "b", "b.0.c", "b.0.d")} == {"a": 1, "b": 2, "b.0.c": 3, "b.0.d": 4}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a:\n  b: 010", "mine.yaml, line 2, column 6: a.b: a number with a leading zero"),
        ("a: [1, " + "9" * 5000 + "]", "mine.yaml, line 1, column 8: a.1: a number of 5,000 digits"),
        ("a: 1e400", "a: inf is not a finite number"),
        ("a: -.inf", "a: -inf is not a finite number"),
        ("a: .nan", "a: nan is not a finite number"),
        ("a: !!binary aGk=", "mine.yaml, line 1, column 4: a: the tag !!binary is not read"),
        ("a: !!set {b}", "a: the tag !!set is not read"),
        ("a: !!python/name:os.system", "a: the tag !!python/name:os.system is not read"),
        ("a: !mine 3", "a: the tag !mine is not read"),
        ("a: 1\nb: 2\na: 3", "mine.yaml, line 3, column 1: a: 'a' occurs twice"),
        ("{<<: {a: 1}, <<: {b: 1}}", "'<<' occurs twice"),
        ("a: {<<: 3}", "a.<<: merges a mapping, or a list of mappings"),
        ("? [1]\n: 2", "[1] cannot be a key"),
        ("true: 2", "True cannot be a key: write it in quotes"),
        ("? " + "k" * 5000 + "\n: 2", "a key of 5,000 characters"),
        ("a: *b", "a: no anchor &b comes before this alias"),
        ("a: &a [1, {b: *a}]", "mine.yaml, line 1, column 15: a.1.b: the alias *a lies within its own value"),
        ("a: &a {<<: *a}", "a.<<: the alias *a lies within its own value"),
        ("a: 1\n---\nb: 2", "mine.yaml, line 2, column 1: a second document begins here"),
        ("a: b: c", "mine.yaml, line 1, column 5: mapping values are not allowed in this context"),
        ("a: \0", "mine.yaml: "),
        ("a: 1\nb: \ud800", "mine.yaml, line 2: half of a surrogate pair"),
        ('a: "\\ud800"', "mine.yaml, line 1, column"),
        ('a: "\\U00110000"', "mine.yaml, line 1, column"),
    ],
)
def test_what_is_not_read_is_told_in_one_line(text: str, message: str) -> None:
    assert message in told(text)


def test_a_document_is_bounded_in_size_depth_and_expansion() -> None:
    read_yaml("[" * MAX_DEPTH + "]" * MAX_DEPTH, "mine.yaml")
    assert f"more than {MAX_DEPTH} mappings and lists within each other" in told("a: " + "[" * 10_000)
    assert f"300,005 characters, and at most {MAX_CHARACTERS:,} are read" in told("a: 12" + " " * MAX_CHARACTERS)
    long = "a: &a " + "x" * 100_000 + "\nb: [" + ",".join(["*a"] * 12) + "]"
    assert "mine.yaml, line 2, column 29: b.8: with all aliases written out" in told(long)
