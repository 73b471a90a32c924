r"""JSON lines: the one writer and the one reader of the project. A line ends at "\n" and nowhere else.

Python's `str.splitlines` also splits at U+2028, U+0085 and others, which JSON may hold as they are.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from envs.text import valid_tree
from launch.storage.documents import dumps
from launch.storage.files import append_text, write_text

END = b"\n"


class JsonLinesError(ValueError):
    """A file of JSON lines is damaged; the message names the file and the line."""


@dataclass(frozen=True)
class Parsed:
    """The lines of a file up to the first that is not whole."""

    rows: list[dict[str, Any]]
    """The objects."""
    raw: list[bytes]
    """Their lines, each with its end."""
    fault: str
    """How the next line is damaged; empty if there is none."""
    cut_off: bool
    """Is the fault the unfinished end of the file, as a kill leaves it? Otherwise the file was changed."""


def append(path: Path, row: Mapping[str, Any]) -> None:
    """Append one line and flush it."""
    append_text(path, dumps(row) + "\n")


def write(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a whole file atomically."""
    write_text(path, encode(rows))


def encode(rows: Iterable[Mapping[str, Any]]) -> str:
    """The text of a whole file."""
    return "".join(dumps(row) + "\n" for row in rows)


def parse(data: bytes) -> Parsed:
    """Read lines until one is damaged."""
    *lines, rest = data.split(END)
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
            row = valid_tree(row) if _escapes_surrogates(line) else row
        except (ValueError, RecursionError):
            row = None
        if not isinstance(row, dict):
            last = number == len(lines) and not rest
            where = f"line {number}, the last," if last else f"line {number} of {len(lines)}"
            return Parsed(rows, [each + END for each in lines[: number - 1]], f"{where} is not a JSON object", False)
        rows.append(row)
    fault = f"line {len(lines) + 1}, the last, is cut off" if rest else ""
    return Parsed(rows, [line + END for line in lines], fault, bool(rest))


def _escapes_surrogates(line: bytes) -> bool:
    """May text of the line hold halves of a character? We write none; other programs may."""
    return b"\\ud" in line or b"\\uD" in line or b"\xed" in line


def read(path: Path) -> list[dict[str, Any]]:
    """All lines of a file. Raises `JsonLinesError` if one is damaged or cut off, or the file cannot be read."""
    try:
        parsed = parse(path.read_bytes())
    except OSError as error:
        raise JsonLinesError(f"{path.name} cannot be read: {error.strerror}") from error
    if parsed.fault:
        raise JsonLinesError(f"{path.name} {parsed.fault}")
    return parsed.rows


def whole(path: Path) -> Parsed:
    """The lines of a file up to the first that is damaged; none if the file is absent."""
    return parse(path.read_bytes() if path.is_file() else b"")
