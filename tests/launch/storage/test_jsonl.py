"""A line of JSON ends at a line feed. The unfinished end of a file is told from damage in its middle."""

from __future__ import annotations

from pathlib import Path

import pytest

from launch.storage import jsonl

ROWS = [{"a": "\u2028\u2029\x85\x1c\x0b\x0c\r\n"}, {"b": [1, None]}]


def test_rows_come_back_as_they_were_written_whatever_characters_they_hold(tmp_path: Path) -> None:
    jsonl.write(tmp_path / "x.jsonl", ROWS[:1])
    jsonl.append(tmp_path / "x.jsonl", {"b": [1, float("nan")]})
    assert jsonl.read(tmp_path / "x.jsonl") == ROWS
    assert (tmp_path / "x.jsonl").read_bytes().count(b"\n") == 2


@pytest.mark.parametrize(
    ("data", "whole", "fault", "cut_off"),
    [
        (b"", 0, "", False),
        (b"{}\n{}\n", 2, "", False),
        (b'{}\n{"a', 1, "line 2, the last, is cut off", True),
        (b"{}\n{}", 1, "line 2, the last, is cut off", True),
        (b'{}\n{"a\n{}\n', 1, "line 2 of 3 is not a JSON object", False),
        (b'{}\n{"a\n', 1, "line 2, the last, is not a JSON object", False),
        (b"[]\n{}\n", 0, "line 1 of 2 is not a JSON object", False),
        (b"{}\n\n{}\n", 1, "line 2 of 3 is not a JSON object", False),
        (b"[" * 100_000 + b"\n", 0, "line 1, the last, is not a JSON object", False),
        (b'{"a": ' + b"9" * 5000 + b"}\n", 0, "line 1, the last, is not a JSON object", False),
        (b"\xff\n", 0, "line 1, the last, is not a JSON object", False),
    ],
)
def test_reading_stops_at_the_first_line_that_is_not_whole(
    tmp_path: Path, data: bytes, whole: int, fault: str, cut_off: bool
) -> None:
    parsed = jsonl.parse(data)
    assert (len(parsed.rows), parsed.fault, parsed.cut_off) == (whole, fault, cut_off)
    assert data.startswith(b"".join(parsed.raw))
    (tmp_path / "x.jsonl").write_bytes(data)
    if fault:
        with pytest.raises(jsonl.JsonLinesError, match=f"^x.jsonl {fault}$"):
            jsonl.read(tmp_path / "x.jsonl")


def test_an_absent_file_has_no_lines_and_cannot_be_read(tmp_path: Path) -> None:
    assert jsonl.whole(tmp_path / "x.jsonl").rows == []
    with pytest.raises(jsonl.JsonLinesError, match="cannot be read: No such file"):
        jsonl.read(tmp_path / "x.jsonl")
