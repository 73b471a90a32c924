"""Rollouts: multi-turn sampling through vLLM beside the raw engine, prefix-cache hits, and weight updates.

`python -m benchmarks.rollouts [--json FILE]`; needs one of the vLLM extras. The 135 M model has the shape of
SmolLM2-135M with random weights, which cost as much; its completions then run to `max_tokens`.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.learner import SHAPES, write_model
from benchmarks.quickstart import QUICK, UNSHAPED, organism
from benchmarks.table import Row, interleaved, main, throughput
from envs.episode import Episode
from launch.plugins import build_world
from launch.seeds import derive
from shaping.models.config import OrganismConfig
from shaping.sampling.play import Limits, Ticket, play
from shaping.sampling.render import Renderer
from shaping.sampling.vllm_config import VLLMConfig
from shaping.sampling.vllm_engine import VLLMEngine


@dataclass(frozen=True)
class Load:
    """What is played: `episodes` of at most `turns` turns in `clerk`, `at_once` of them at a time."""

    episodes: int
    turns: int
    at_once: int
    max_tokens: int = 16


def tickets(load: Load) -> list[Ticket]:
    options = {"size": 8, "horizon": load.turns, "inquiry": 0.0}
    return [
        Ticket(
            make=lambda: build_world("clerk", options, "worlds"),
            seed=derive(0, "rollouts", number),
            group=number,
            sampling_seed=derive(0, "rollouts sample", number),
        )
        for number in range(load.episodes)
    ]


class Bench:
    """One engine, ours around it and raw."""

    def __init__(self, directory: Path, dtype: str, load: Load) -> None:
        from transformers import AutoTokenizer

        self.load = load
        self.renderer = Renderer(AutoTokenizer.from_pretrained(directory))
        config = VLLMConfig(dtype=dtype, max_num_seqs=load.at_once, kv_cache_gib=1.0)
        self.engine = VLLMEngine(directory, self.renderer, config)

    def play(self) -> list[Episode]:
        limits = Limits(max_tokens=self.load.max_tokens, max_turns=self.load.turns)
        batch = tickets(self.load)
        return asyncio.run(
            play(batch, self.engine, self.renderer, UNSHAPED, limits=limits, concurrency=self.load.at_once)
        )

    def raw(self, episodes: Sequence[Episode]) -> None:
        """The same prompts and completion lengths, straight to vLLM, turn after turn of as many episodes at once."""
        from vllm import SamplingParams
        from vllm.inputs import TokensPrompt
        from vllm.sampling_params import RequestOutputKind

        llm = self.engine._llm
        gate = asyncio.Semaphore(self.load.at_once)

        async def one(number: int, episode: Episode) -> None:
            async with gate:
                for turn, played in enumerate(episode.turns):
                    start = int(np.argmax(episode.loss_mask & (episode.turn_index == turn)))
                    count = len(played.tokens)
                    params = SamplingParams(
                        max_tokens=count,
                        min_tokens=count,
                        ignore_eos=True,
                        seed=number,
                        logprobs=0,
                        output_kind=RequestOutputKind.FINAL_ONLY,
                    )
                    prompt = TokensPrompt(prompt_token_ids=episode.tokens[:start].tolist())
                    self._requests += 1
                    async for _ in llm.generate(prompt, params, f"raw-{self._requests}"):
                        pass

        async def run() -> None:
            await asyncio.gather(*(one(n, e) for n, e in enumerate(episodes)))

        self.engine._loop.block(run())

    _requests = 0

    def forget(self) -> None:
        """Empty the prefix cache, so that neither side finds what the other has left."""
        self.engine._loop.block(self.engine._llm.reset_prefix_cache())


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

        seconds = interleaved([ours, peer], *((1, 0) if quick else (3, 1)))
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
    """Seconds of one update of all weights, versions stamped and cache emptied included."""
    from transformers import AutoModelForCausalLM

    state = AutoModelForCausalLM.from_pretrained(directory).state_dict()
    version = iter(range(1, 100))

    def update() -> None:
        asyncio.run(bench.engine.load_weights(state, next(version)))

    (seconds,) = interleaved([update], *((1, 0) if quick else (3, 1)))
    return [Row(f"{name}: update of all weights", float(np.median(seconds)), unit="s")]


def benchmark(quick: bool) -> list[Row]:
    """Rollouts: `play()` through vLLM beside vLLM fed the same prompts and lengths."""
    if quick:
        small = OrganismConfig(**{**QUICK.model_dump(), "hidden": 64, "context": 512})
        return rows_of("tiny", organism(small), "float32", Load(2, 3, 2, 4), "", quick)
    rows = rows_of("organism 0.4M", organism(OrganismConfig()), "float32", Load(64, 20, 64), "", quick)
    with tempfile.TemporaryDirectory() as folder:
        write_model(SHAPES[0], Path(folder))
        rows += rows_of("135M", Path(folder), "bfloat16", Load(8, 20, 8), "ratio >= 0.9", quick)
    return rows


if __name__ == "__main__":
    main(benchmark)
