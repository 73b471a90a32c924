"""Read Parquet files and keep nothing, in a process of its own: `python trial_read.py BYTES BATCH FILE ...`.

A file can state small sizes and unpack to anything, or crash the library that reads it. Here either costs this process,
whose memory is limited to BYTES more than it has after its imports. One JSON line per file: "" or what was wrong.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq


def read_through(path: str, batch: int) -> None:
    """Unpack all of a file, texts as references, as `envs.store` does."""
    with pq.ParquetFile(path) as file:
        columns = [file.schema.column(index) for index in range(len(file.schema))]
        texts, metadata = [c.path for c in columns if c.physical_type == "BYTE_ARRAY"], file.metadata
    with pq.ParquetFile(path, metadata=metadata, read_dictionary=texts) as file:
        for _ in file.iter_batches(batch_size=batch, use_threads=False):
            pass


def main(limit: int, batch: int, paths: list[str]) -> None:
    """Try all files; a crash leaves the lines of those before it."""
    pa.set_memory_pool(pa.system_memory_pool())
    with contextlib.suppress(OSError, ValueError):  # systems without /proc, or without such limits
        used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        resource.setrlimit(resource.RLIMIT_AS, (used + limit, resource.getrlimit(resource.RLIMIT_AS)[1]))
    for path in paths:
        problem = ""
        try:
            read_through(path, batch)
        except MemoryError:  # of Arrow, too
            problem = f"it unpacks to more than the {limit:,} bytes of memory that it may have"
        except (pa.ArrowException, OSError, ValueError) as error:
            problem = str(error)
        os.write(1, f"{json.dumps(problem[:500])}\n".encode())  # the pipe that the report reads


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
