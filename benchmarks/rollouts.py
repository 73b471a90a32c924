"""Rollouts: multi-turn sampling through vLLM beside the raw engine, prefix-cache hits, and weight updates.

`python -m benchmarks.rollouts [--json FILE]`; needs one of the vLLM extras. The 135 M model has the shape of
SmolLM2-135M and random weights, at the same cost; its completions run to `max_tokens`.
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.learner import SHAPES, write_model
from benchmarks.quickstart import QUICK, organism
from benchmarks.rollout_load import Bench, Load
from benchmarks.rollout_peers import overlap_row, per_turn_row, trl_row
from benchmarks.table import Row, interleaved, main, throughput
from shaping.organisms.config import OrganismConfig
from shaping.sampling.transfer.broadcast import Broadcaster


def rows_of(name: str, directory: Path, dtype: str, load: Load, target: str, quick: bool) -> list[Row]:
    bench = Bench(directory, dtype, load)
    try:
        episodes = bench.play()
        sampled = sum(int(e.loss_mask.sum()) for e in episodes)
        lengths = [len(e.tokens) for e in episodes]
        print(f"{name}: {len(episodes)} episodes of {min(lengths)} to {max(lengths)} tokens, {sampled} sampled")

        def ours() -> None:
            bench.forget()
            bench.play()

        def peer() -> None:
            bench.forget()
            bench.raw(episodes)

        seconds = interleaved([ours, peer], 1 if quick else 2, warm_up=0)  # warmed up by `episodes`
        before = bench.engine.prompt_tokens, bench.engine.cached_tokens
        ours()
        prompts, hits = bench.engine.prompt_tokens - before[0], bench.engine.cached_tokens - before[1]
        return [
            throughput(f"{name}: raw vLLM", "tokens/s", *seconds, work=sampled, target=target),
            Row(f"{name}: prompt tokens found in the cache", 100 * hits / prompts, unit="%"),
            *update_rows(name, bench, directory, quick),
        ]
    finally:
        bench.engine.shutdown()


def update_rows(name: str, bench: Bench, directory: Path, quick: bool) -> list[Row]:
    """Seconds of one update of all weights, including the stamp of the version and an emptied cache."""
    from transformers import AutoModelForCausalLM

    state = AutoModelForCausalLM.from_pretrained(directory).state_dict()
    version = iter(range(1, 100))

    def by_file() -> None:
        asyncio.run(bench.engine.load_weights(state, next(version)))

    def by_broadcast() -> None:
        asyncio.run(bench.engine.receive_weights(sender.offer("engine", state), next(version)))
        sender.settle("engine", True)

    with contextlib.closing(Broadcaster("127.0.0.1", timeout=120.0)) as sender:
        seconds = interleaved([by_file, by_broadcast], *((1, 0) if quick else (3, 1)))
    ways = ("update of all weights", "the same by broadcast")
    return [Row(f"{name}: {way}", float(np.median(s)), unit="s") for way, s in zip(ways, seconds, strict=True)]


def benchmark(quick: bool) -> list[Row]:
    """Rollouts beside the raw engine, one Ray call per turn, TRL's updates, and a run without overlap."""
    if quick:
        small = organism(OrganismConfig(**{**QUICK.model_dump(), "hidden": 64, "context": 512}))
        return all_rows("tiny", small, "float32", Load(2, 3, 2, 4), Load(2, 3, 2, 4), ("", ""), quick)
    kept = organism(OrganismConfig())
    rows = all_rows("organism 0.4M", kept, "float32", Load(64, 20, 64), Load(32, 8, 32), ("", "ratio >= 2"), quick)
    with tempfile.TemporaryDirectory() as folder:
        write_model(SHAPES[0], Path(folder))
        targets = ("ratio >= 0.9", "ratio >= 2")
        return rows + all_rows("135M", Path(folder), "bfloat16", Load(8, 20, 8), Load(8, 8, 8), targets, quick)


def all_rows(
    name: str, directory: Path, dtype: str, load: Load, short: Load, targets: tuple[str, str], quick: bool
) -> list[Row]:
    """`short` is the load of whole updates and of one call per turn."""
    rows = [
        *rows_of(name, directory, dtype, load, targets[0], quick),
        per_turn_row(name, directory, dtype, short, quick),
        trl_row(name, directory, dtype, short, targets[1], quick),
    ]
    return rows if dtype == "bfloat16" else [*rows, overlap_row(f"{name}, steps of 200 ms", directory, short, quick)]


if __name__ == "__main__":
    main(benchmark)
