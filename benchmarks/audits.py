"""Audits: seconds for all audits of 100,000 episodes in files, beside reading the same files as episodes.

`python -m benchmarks.audits`. The episodes are played by scripted personas in four worlds, with the tokens of a real
tokenizer, and repeated under other seeds, as a study of that size would be. The files are in memory that the system has
just written: the disk is not measured.
"""

from __future__ import annotations

import resource
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.table import Row, main
from envs.episode import Contexts, Episode
from envs.store import read_episodes, write_episodes
from shaping.audits.columns import stored_columns
from shaping.audits.logs import audit
from shaping.audits.played import conditions_of
from shaping.audits.summary import summarise
from shaping.contract.groups import group_keys, play_groups, small_policy
from shaping.sampling.text.render import Renderer

WORLDS = ("steward", "clerk", "workshop", "nightwatch")
EPISODES, PER_FILE = 100_000, 12_500
QUICK = 192


def played(seeds: int) -> list[Episode]:
    """Groups of six personas, of `seeds` seeds in each world."""
    keys = group_keys(seeds, WORLDS)
    return play_groups(keys, [Contexts()] * len(keys), Renderer(small_policy().tokenizer))


def write(folder: Path, episodes: int, per_file: int) -> list[Path]:
    """Files with so many episodes, each copy of a group under a seed of its own."""
    drawn = played(2 if episodes == QUICK else 24)
    paths: list[Path] = []
    written = 0
    while written < episodes:
        size = min(per_file, episodes - written)
        copies = [(written + i, drawn[(written + i) % len(drawn)]) for i in range(size)]
        own = [replace(e, seed=e.seed + 1000 * (i // len(drawn)), group=i // 6) for i, e in copies]
        paths.append(folder / f"episodes-{len(paths)}.parquet")
        write_episodes(paths[-1], [replace(e, options={**e.options, **_cues(e.seed)}) for e in own])
        written += size
    return paths


def _cues(seed: int) -> dict[str, str]:
    return {"watch": "always" if seed % 2 else "never", "placebo": "on" if seed % 4 < 2 else "off"}


def benchmark(quick: bool) -> list[Row]:
    """Audits of 100,000 episodes: seconds to read columns and compute every metric, with and without intervals."""
    count, per_file = (QUICK, QUICK // 2) if quick else (EPISODES, PER_FILE)
    with tempfile.TemporaryDirectory() as folder:
        paths = write(Path(folder), count, per_file)
        start = time.perf_counter()
        columns, _ = stored_columns(paths)
        read = time.perf_counter()
        plain = audit(columns, intervals=False)
        counted = time.perf_counter()
        audit(columns)
        done = time.perf_counter()
        whole = time.perf_counter()
        episodes = read_episodes(paths[0])
        summary = summarise([], conditions_of(episodes), {})
        peer = (time.perf_counter() - whole) * count / len(episodes)
        megabytes = sum(path.stat().st_size for path in paths) / 2**20
    assert len(columns) == count and plain.rows and summary
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    name = f"{count:,} episodes, {int(np.mean(columns.turns))} turns each, {megabytes:.0f} MiB"
    ours = read - start + done - counted
    return [
        Row(f"{name}: all audits", ours, peer, "s", peer / ours, "ours < 60"),
        Row(f"{name}: reading columns", read - start, None, "s"),
        Row(f"{name}: audits without intervals", counted - read, None, "s"),
        Row(f"{name}: peak memory, writing the files included", peak, None, "GiB"),
    ]


if __name__ == "__main__":
    main(benchmark)
