"""The workload of the rollout benchmarks, and a vLLM engine that plays it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.quickstart import UNSHAPED
from envs.episode import Episode
from launch.config.plugins import build_world
from launch.run.seeds import derive
from shaping.sampling.engine import Engine
from shaping.sampling.play import EpisodeRequest, Limits, play
from shaping.sampling.text.render import Renderer
from shaping.sampling.vllm.config import VLLMConfig
from shaping.sampling.vllm.engine import VLLMEngine


@dataclass(frozen=True)
class Load:
    """Episodes in the world `clerk`."""

    episodes: int
    """Number of episodes."""
    turns: int
    """Maximum turns of an episode."""
    at_once: int
    """Episodes open at the same time."""
    max_tokens: int = 16
    """Maximum tokens of a completion."""


def episode_requests(load: Load) -> list[EpisodeRequest]:
    options = {"size": 8, "horizon": load.turns, "inquiry": 0.0}
    return [
        EpisodeRequest(
            make=lambda: build_world("clerk", options, "worlds"),
            seed=derive(0, "rollouts", number),
            group=number,
            sampling_seed=derive(0, "rollouts sample", number),
        )
        for number in range(load.episodes)
    ]


async def played(load: Load, engine: Engine, renderer: Renderer) -> list[Episode]:
    limits = Limits(max_tokens=load.max_tokens, max_turns=load.turns)
    return await play(episode_requests(load), engine, renderer, UNSHAPED, limits=limits, concurrency=load.at_once)


class Bench:
    """One vLLM engine, used by our rollouts and directly."""

    def __init__(self, directory: Path, dtype: str, load: Load) -> None:
        from transformers import AutoTokenizer

        self.load = load
        self.renderer = Renderer(AutoTokenizer.from_pretrained(directory))
        config = VLLMConfig(dtype=dtype, max_num_seqs=load.at_once, kv_cache_gib=1.0)
        self.engine = VLLMEngine(directory, self.renderer, config)

    def play(self) -> list[Episode]:
        return asyncio.run(played(self.load, self.engine, self.renderer))

    def raw(self, episodes: Sequence[Episode]) -> None:
        """Send the same prompts and completion lengths directly to vLLM, with as many episodes at the same time."""
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
        """Empty the prefix cache, so that neither side profits from the other."""
        self.engine._loop.block(self.engine._llm.reset_prefix_cache())
