"""Sampling: tokens/s of `play()` on the quickstart's episodes, beside a plain `generate` loop over the same turns."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, StoppingCriteria, StoppingCriteriaList

from benchmarks.learner import SHAPES, TINY, write_model
from benchmarks.quickstart import Player, episode_requests, started, study, unshaped
from benchmarks.table import Row, interleaved, main, throughput
from envs.episode import Episode
from launch.config.study import RunConfig
from shaping.hooks import Capture, Positions
from shaping.sampling.play import EpisodeRequest


class Lengths(StoppingCriteria):
    """Row i stops after `counts[i]` new tokens, so that both sides sample the same number of tokens."""

    def __init__(self, prompt: int, counts: Sequence[int]) -> None:
        self._stops = prompt + torch.tensor(counts)

    def __call__(self, input_ids: Tensor, scores: Tensor, **_: Any) -> Tensor:
        return input_ids.shape[1] >= self._stops


class GenerateLoop:
    """One left-padded `generate` per turn over all open episodes. Every turn re-reads the history.

    Within a turn, generate's usual key-value cache is on or off. Histories and completion lengths are taken from played
    episodes, so this side needs neither worlds nor text; our time includes both.
    """

    def __init__(self, directory: Path, temperature: float) -> None:
        self.model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32, attn_implementation="sdpa")
        self.model.eval()
        self.model.generation_config.eos_token_id = None
        self._pad = int(self.model.config.pad_token_id)
        self._sampling = {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0}

    def replay(self, episodes: Sequence[Episode], *, use_cache: bool) -> None:
        for turn in range(max(len(e.turns) for e in episodes)):
            still_open = [e for e in episodes if len(e.turns) > turn]
            histories = [e.tokens[: _completion_start(e, turn)] for e in still_open]
            self._turn(histories, [len(e.turns[turn].tokens) for e in still_open], use_cache)

    def _turn(self, histories: Sequence[np.ndarray], counts: Sequence[int], use_cache: bool) -> None:
        width = max(map(len, histories))
        ids = torch.full((len(histories), width), self._pad)
        attend = torch.zeros_like(ids)
        for row, history in enumerate(histories):
            ids[row, width - len(history) :] = torch.from_numpy(history.astype(np.int64))
            attend[row, width - len(history) :] = 1
        self.model.generate(
            ids,
            attention_mask=attend,
            max_new_tokens=max(counts),
            stopping_criteria=StoppingCriteriaList([Lengths(width, counts)]),
            use_cache=use_cache,
            pad_token_id=self._pad,
            **self._sampling,
        )


def _completion_start(episode: Episode, turn: int) -> int:
    return int(np.argmax(episode.loss_mask & (episode.turn_index == turn)))


def benchmark(quick: bool) -> list[Row]:
    """Sampling: the embedded engine beside generate of transformers, in the quickstart's worlds."""
    config = study(quick)
    run, directory = unshaped(config), started(unshaped(config))
    player, loop = Player(run, directory), GenerateLoop(directory, run.train.temperature)
    batch = episode_requests(run, run.train.worlds)
    episodes = player.play(batch)
    lengths, sampled = [len(e.tokens) for e in episodes], sum(int(e.loss_mask.sum()) for e in episodes)

    def ours() -> None:
        player.play(batch)

    print(f"{len(episodes)} episodes of {min(lengths)} to {max(lengths)} tokens, {sampled} sampled")
    repetitions, warm_up = (1, 0) if quick else (3, 1)
    cached = interleaved([ours, lambda: loop.replay(episodes, use_cache=True)], repetitions, warm_up)
    plain = interleaved([ours, lambda: loop.replay(episodes, use_cache=False)], 1, warm_up=0)
    return [
        throughput("training: generate", "tokens/s", *cached, work=sampled, target="ratio >= 2"),
        throughput("training: generate, use_cache=False", "tokens/s", *plain, work=sampled),
        *_with_states(get_args(Positions), run, directory, batch, "", quick),
        *_with_states_of_a_larger_model(run, quick),
    ]


def _with_states_of_a_larger_model(run: RunConfig, quick: bool) -> list[Row]:
    """The same of a random model of SmolLM2-135M's shape, whose completions have 48 tokens each."""
    shape = TINY if quick else replace(SHAPES[0], vocabulary=TINY.vocabulary)
    train = run.train.model_copy(update={"max_tokens": 4 if quick else 48, "groups": 2, "group_size": 4})
    learner = run.learner.model_copy(update={"dtype": shape.dtype})
    small = run.model_copy(update={"train": train, "learner": learner})
    batch = episode_requests(small, {"clerk": {"size": 2, "horizon": 2}})
    with tempfile.TemporaryDirectory() as scratch:
        write_model(shape, Path(scratch))
        return _with_states(("response", "prompt_end"), small, Path(scratch), batch, f"{shape.name}, ", quick)


def _with_states(
    kinds: Sequence[Positions], run: RunConfig, directory: Path, batch: list[EpisodeRequest], model: str, quick: bool
) -> list[Row]:
    """Sampling that keeps hidden states of each of these kinds of positions, beside sampling that keeps none."""
    plain = Player(run, directory)
    sampled = sum(int(e.loss_mask.sum()) for e in plain.play(batch))
    repetitions, warm_up = (1, 0) if quick else (5, 1)  # they differ by a few per cent
    rows = []
    for positions in kinds:
        reader = Player(run, directory, [Capture("probe", positions=positions, phase="sampling")])
        pair = interleaved([partial(reader.play, batch), partial(plain.play, batch)], repetitions, warm_up)
        # Three per cent of an update, of which sampling is 60 per cent.
        name = f"{model}states of {positions}: none"
        rows.append(throughput(name, "tokens/s", *pair, work=sampled, target="ratio >= 0.95"))
    return rows


if __name__ == "__main__":
    main(benchmark)
