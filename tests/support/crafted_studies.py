"""Studies whose files somebody has changed, with seals that fit: a checksum keeps out accidents, not intent."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from envs.store import SCHEMA
from launch.storage.documents import checksum
from launch.storage.seals import seals, written_files

Document = dict[str, Any]


def reseal(run: Path) -> None:
    """Let result.json vouch for the files as they are now."""
    path = run / "result.json"
    document = json.loads(path.read_text())
    document["files"] = seals(run, written_files(run))
    sealed(path, document)


def sealed(path: Path, document: Document) -> None:
    """Write a document with the checksum that fits."""
    path.write_text(json.dumps({**document, "checksum": checksum(document)}))


def in_result(change: Callable[[Document], Any]) -> Callable[[Path], None]:
    """Change result.json."""

    def craft(run: Path) -> None:
        document = json.loads((run / "result.json").read_text())
        change(document)
        sealed(run / "result.json", document)

    return craft


def in_record(change: Callable[[Document], Any]) -> Callable[[Path], None]:
    """Change run.json."""

    def craft(run: Path) -> None:
        document = json.loads((run / "run.json").read_text())
        change(document)
        sealed(run / "run.json", document)
        reseal(run)

    return craft


def in_lines(name: str, change: Callable[[list[Any]], Any]) -> Callable[[Path], None]:
    """Change the objects of a file of JSON lines."""

    def craft(run: Path) -> None:
        rows = [json.loads(line) for line in (run / name).read_text().split("\n") if line]
        change(rows)
        (run / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
        reseal(run)

    return craft


def in_episodes(change: Callable[[list[Document]], Any]) -> Callable[[Path], None]:
    """Change the rows of the episodes of the evaluation."""

    def craft(run: Path) -> None:
        path = run / "episodes" / "eval.parquet"
        rows = pq.read_table(path, partitioning=None).to_pylist()
        change(rows)
        pq.write_table(pa.Table.from_pylist(rows, SCHEMA), path, compression="zstd")
        reseal(run)

    return craft


def replaced(name: str, make: Callable[[Path], Any], *, fits: bool = True) -> Callable[[Path], None]:
    """Put something else in place of a file."""

    def craft(run: Path) -> None:
        (run / name).unlink()
        make(run / name)
        if fits:
            reseal(run)

    return craft
