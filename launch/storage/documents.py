"""JSON documents: strict JSON that any reader parses, with a format marker and a checksum."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from envs.text import valid, valid_tree
from launch.config.reading.digests import digest
from launch.errors import RunDirectoryError
from launch.storage.files import write_text

VERSION = 1
"""Version of the formats of a run and of a study."""


def dumps(document: Any, indent: int | None = None, *, compact: bool = False) -> str:
    """Strict JSON: non-finite numbers become null, numpy's numbers and arrays become JSON's, text becomes valid."""
    separators = (",", ":") if compact else None
    return json.dumps(_finite(document), indent=indent, separators=separators, allow_nan=False, ensure_ascii=False)


def _finite(value: Any) -> Any:
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {valid(str(key)): _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return valid(value) if isinstance(value, str) else value


def write_json(path: Path, document: Any) -> None:
    """Write indented strict JSON atomically."""
    write_text(path, dumps(document, indent=1) + "\n")


def write_sealed(path: Path, document: Mapping[str, Any]) -> None:
    """Write strict JSON with a checksum of itself."""
    parsed = json.loads(dumps(document))  # the checksum is of the JSON that a reader parses
    write_json(path, {**parsed, "checksum": checksum(parsed)})


def checksum(document: Mapping[str, Any]) -> str:
    """Checksum of a document without its own."""
    return digest({key: value for key, value in document.items() if key != "checksum"})


def read_marked(path: Path, kind: str) -> dict[str, Any] | None:
    """A JSON object with the format marker `kind`, or None if it is absent, damaged or foreign.

    Raises `RunDirectoryError` for another version of the format.
    """
    try:
        document = valid_tree(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(document, dict) or document.get("format") != kind:
        return None
    if document.get("version") != VERSION:
        raise RunDirectoryError(
            f"{path} has version {document.get('version')} of the format, this program reads {VERSION}; "
            "use the version of the program that wrote it"
        )
    return document


def read_sealed(path: Path, kind: str) -> dict[str, Any] | None:
    """As `read_marked`; also None if the checksum does not match."""
    document = read_marked(path, kind)
    return document if document is not None and document.get("checksum") == checksum(document) else None
