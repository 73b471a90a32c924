"""Rows of data sets on the Hugging Face hub. Nothing of a data set is executed."""

from __future__ import annotations

import os
from collections.abc import Mapping
from itertools import islice
from typing import Any

from shaping.finetuning.rows import DataError

OFFLINE = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE")
MOST_READ = 1_000_000
"""Rows that are read without a number of rows."""


def documents(
    name: str,
    *,
    columns: Mapping[str, str],
    revision: str | None = None,
    config: str | None = None,
    split: str = "train",
    rows: int | None = None,
) -> list[tuple[dict[str, Any], str, int]]:
    """(row, its place in words, its number) of a data set, which is streamed. Columns that are missing are left out.

    Args: `columns`: key of a row -> column of the data set; empty: the columns that are called like keys.
    Raises: `DataError` if the hub cannot be reached or has no such data.
    """
    if offline := next((variable for variable in OFFLINE if os.environ.get(variable, "0") not in ("", "0")), ""):
        raise DataError(f"data set {name!r}: {offline} is set, so that the hub is not asked: unset it, or give a file")
    try:
        from datasets import load_dataset
    except ImportError as error:
        raise DataError(f"data set {name!r} needs the extra trl: pip install 'shaping[trl]' ({error})") from error
    try:
        found = list(
            islice(load_dataset(name, config, split=split, revision=revision, streaming=True), rows or MOST_READ)
        )
    except Exception as error:  # of the hub, of the network, of one of many file formats
        why = " ".join(str(error).split())[:200]
        raise DataError(
            f"data set {name!r} cannot be read from the hub ({type(error).__name__}: {why}): check its name and the "
            "network, or give the same rows as a file"
        ) from error
    if not found:
        raise DataError(f"data set {name!r} has no rows in its split {split!r}")
    wanted = dict(columns) or {key: key for key in ("prompt", "answer", "system", "messages", "chosen", "rejected")}
    if missing := [column for column in columns.values() if column not in found[0]]:
        raise DataError(f"data set {name!r} has no column {missing[0]!r}; it has {', '.join(map(str, found[0]))}")
    return [
        ({key: row[column] for key, column in wanted.items() if row.get(column) is not None}, f"{name}, row {n}", n)
        for n, row in enumerate(found, 1)
    ]
