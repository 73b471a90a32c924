"""Some columns of episode files, without episodes as objects: a hundred thousand of them are read in seconds."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from envs.store import StoreError, known_schema, refuse_excess


def read_columns(path: str | os.PathLike[str], columns: Sequence[str]) -> pa.Table:
    """Columns of an episode file by their dotted paths in Parquet, e.g. `turns.list.element.reward`.

    Those that an older version does not have are left out. Raises `StoreError` for truncated, foreign, damaged and
    excessive files, as `read_episodes` does, but only what is read counts against the limits.
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # opening a pipe would wait for somebody to write
            raise StoreError(f"{path}: not a file")
        with pq.ParquetFile(path) as file:
            known_schema(file.schema_arrow)
            paths = [file.schema.column(index).path for index in range(len(file.schema))]
            there = [name for name in columns if any(p == name or p.startswith(f"{name}.") for p in paths)]
            refuse_excess(file.metadata, tuple(there))
            return file.read(columns=there, use_threads=False)
    except FileNotFoundError:
        raise
    except StoreError as error:
        raise StoreError(str(error) if str(path) in str(error) else f"{path}: {error}") from error.__cause__
    except (pa.ArrowException, OSError, MemoryError) as error:
        raise StoreError(
            f"{path}: not a readable Parquet file, probably cut off while it was written ({error})"
        ) from error
