"""Viewer: seconds until the first page of a study of 100,000 episodes is there, and until its other pages are."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.table import Row, main
from envs.episode import Contexts, Episode, Event, Labels, RolloutStatus, Sealed, Span, SpanKind, Turn
from envs.store import SCHEMA, write_episodes
from launch.viewer.index.filters import Filters
from launch.viewer.pages import episode_page, list_page
from launch.viewer.reader import Reader
from launch.viewer.server import ServedLinks
from launch.viewer.sources import find_sources

ARMS, SEEDS, UPDATES, GROUP = 5, 5, 63, 64
"""5 arms, 5 seeds and 63 updates of 64 episodes: 100,800 episodes in 1,575 files."""
WORDS = ("stock", "demand", "order", "wait", "grab", "report", "item", "needs", "work", "done", "overseer", "asks")


def episode(rng: np.random.Generator, seed: int) -> Episode:
    """8 to 15 turns of random words and random labels."""
    turns, labels = [], []
    for _ in range(rng.integers(8, 16)):
        observation, motive, action = (" ".join(rng.choice(WORDS, n)) for n in (24, 8, 3))
        harm, lie = float(rng.random() < 0.1), float(rng.random() < 0.05)
        start = len(motive) + len(" ACTION: ")
        turns.append(
            Turn(
                observation=observation,
                completion=f"{motive} ACTION: {action}",
                motive=Span(0, len(motive)),
                action=Span(start, start + len(action)),
                executed=action,
                reward=float(rng.random()),
                events=(Event("act", "grab", action),) if harm else (),
                tokens=rng.integers(0, 400, 14).astype(np.int32),
                logprobs=-rng.exponential(0.7, 14).astype(np.float32),
                policy_versions=np.full(14, 3, np.int32),
            )
        )
        opportunity = {"deception": True, "harm": True}
        labels.append(Labels(deception=lie, harm=harm, opportunity=opportunity, monitored=bool(rng.random() < 0.5)))
    count = 44 * len(turns)  # 30 observed and 14 sampled tokens in every turn
    sampled = np.arange(count) % 44 >= 30
    return Episode(
        world="steward",
        seed=seed,
        group=seed // 8,
        arm="arm",
        status=RolloutStatus.COMPLETED,
        contexts=Contexts(),
        turns=tuple(turns),
        truth=Sealed(tuple(labels)),
        tokens=rng.integers(0, 400, count).astype(np.int32),
        loss_mask=sampled,
        span_kind=np.where(sampled, SpanKind.MOTIVE, SpanKind.OBSERVATION).astype(np.int8),
        turn_index=(np.arange(count) // 44).astype(np.int16),
        logprobs=np.where(sampled, -0.5, 0).astype(np.float32),
        head=30,
        options={"watch": "never", "placebo": "none", "eval_cells": ["own"]},
    )


def write_study(root: Path, arms: int, seeds: int, updates: int, group: int) -> list[str]:
    """Episode files as a study leaves them. Files differ in the episodes' seeds; their texts repeat."""
    (root / "study.json").write_text("{}")
    base = root / "base.parquet"
    rng = np.random.default_rng(0)
    write_episodes(base, [episode(rng, number) for number in range(group)])
    table = pq.read_table(base, partitioning=None)
    paths = []
    for number in range(arms * seeds * updates):
        arm, seed, update = number % arms, number // arms % seeds, number // (arms * seeds)
        path = root / "runs" / f"arm{arm}" / f"seed-{seed}" / "episodes" / f"train-{update:06d}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        numbers = pa.array(np.arange(group) + number * group, pa.int64())
        pq.write_table(table.set_column(1, "seed", numbers).cast(SCHEMA), path, compression="zstd")
        paths.append(str(path))
    return paths


def seconds(call: Callable[[], object]) -> float:
    """Wall seconds of a call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def shown(reader: Reader, **choices: str) -> str:
    """The list with these filters, as HTML."""
    filters = Filters.model_validate(choices)
    return list_page("study", ServedLinks(filters), reader.ask("page", filters=filters.model_dump()), filters)


def read_all(paths: list[str]) -> int:
    """The same small columns of all files, by pyarrow alone."""
    columns = ["world", "seed", "group", "status", "sampling", "options"]
    return sum(len(pq.read_table(path, columns=columns, partitioning=None)) for path in paths)


def benchmark(quick: bool) -> list[Row]:
    """Viewer: a study of 100,000 episodes is opened, listed, filtered, and an episode of it shown."""
    repetitions = 1 if quick else 3
    with tempfile.TemporaryDirectory() as folder:
        paths = write_study(Path(folder), *((2, 1, 2, 8) if quick else (ARMS, SEEDS, UPDATES, GROUP)))
        opened: dict[str, list[float]] = {}
        for _ in range(repetitions):
            start = time.perf_counter()
            with Reader(find_sources(Path(folder)).files) as reader:
                shown(reader)
                opened.setdefault("open and show the list", []).append(time.perf_counter() - start)
                for name, call in _pages(reader):
                    opened.setdefault(name, []).append(seconds(call))
        peer = median(seconds(lambda: read_all(paths)) for _ in range(repetitions))
    rows = []
    for name, taken in opened.items():
        first = name == "open and show the list"
        beside = (peer, "s", peer / median(taken), "ours < 2") if first else (None, "s")
        rows.append(Row(name, median(taken), *beside))
    return rows


def _pages(reader: Reader) -> list[tuple[str, Callable[[], object]]]:
    """Pages in the order in which they are asked for: the first of a kind reads its columns of all files."""
    number = reader.about["episodes"] // 2

    def one() -> str:
        episode = reader.ask("episode", id=number)
        return episode_page("study", ServedLinks(), episode, episode["partners"])

    return [
        ("page 1000", lambda: shown(reader, page="1000")),
        ("one arm, one update", lambda: shown(reader, arm="arm1", update="1")),
        ("episodes with a label, first time", lambda: shown(reader, label="shown", trait="harm")),
        ("episodes with a label, again", lambda: shown(reader, label="shown", trait="deception")),
        ("highest return first, first time", lambda: shown(reader, order="-return")),
        ("highest return first, again", lambda: shown(reader, order="-return", page="2")),
        ("one episode, first of its file", one),
        ("one episode, again", one),
    ]


if __name__ == "__main__":
    main(benchmark)
