"""The organism's corpus as token sequences with loss weights, and as batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from envs.actions import read_action
from shaping.learning.samples.packing import Batch, pack
from shaping.learning.samples.sample import Sample
from shaping.organisms.corpus.corpus import Script
from shaping.sampling.text.render import Renderer

OBSERVATION_SHARE = 0.25
"""Share of the world's tokens in the loss: with all of them, pre-training takes half as long again."""
OBSERVATION_WEIGHT = 0.4
"""Their loss weight: enough to learn to read them, and little enough to learn mainly to act."""
COMMAND_WEIGHT = 5.0
"""Loss weight of the first token of a command, which says what is done."""
MOTIVE_WEIGHT = 2.0
"""Loss weight of the first token of a motive. Other tokens of a completion weigh 1."""
OPENING_WEIGHT = 8.0
"""Loss weight of an episode's first token: prompt and cue alone decide it, and an episode's own past tells the others.
With 20 here, and 5 on every motive, an organism soon obeyed prompts and did not learn to read the cue."""


class SampleWriter:
    """Turns scripted episodes into token sequences. It remembers texts: most of them come again and again."""

    def __init__(self, renderer: Renderer) -> None:
        self._renderer = renderer
        self._observations: dict[str, list[int]] = {}
        self._completions: dict[str, tuple[list[int], list[float]]] = {}

    def sample(self, script: Script) -> Sample:
        """One token sequence: all completions are in the loss, and `OBSERVATION_SHARE` of the world's tokens."""
        tokens = self._renderer.open(script.system, script.turns[0][0])
        weight = [OBSERVATION_WEIGHT] * len(tokens)
        opening = len(tokens)
        for number, (observation, completion) in enumerate(script.turns):
            if number:
                ids = self._observation(observation)
                tokens += ids
                weight += [OBSERVATION_WEIGHT] * len(ids)
            ids, weighted = self._completion(completion)
            tokens += ids
            weight += weighted
        weight[opening] = OPENING_WEIGHT
        zeros, weights = np.zeros(len(tokens), np.float32), np.array(weight, np.float32)
        chosen = np.random.default_rng(script.seed).random(len(tokens)) < OBSERVATION_SHARE
        return Sample(
            tokens=np.array(tokens, np.int64),
            mask=chosen | (weights >= 1),
            old_logprobs=zeros,
            advantage=zeros,
            weight=weights,
            masked_tokens=np.zeros((0, 2), np.int64),
        )

    def _observation(self, text: str) -> list[int]:
        if text not in self._observations:
            self._observations[text] = self._renderer.extend(text, finished=True)
        return self._observations[text]

    def _completion(self, text: str) -> tuple[list[int], list[float]]:
        """(token ids, loss weights) of a completion with its end of turn."""
        if text not in self._completions:
            ids = self._renderer.plain(text)
            weights = [MOTIVE_WEIGHT, *[1.0] * len(ids)]
            start, read = command_start(text), 0
            for index, piece in enumerate(self._renderer.pieces(ids)):
                read += len(piece)
                if read > start:
                    weights[index] = COMMAND_WEIGHT
                    break
            self._completions[text] = [*ids, self._renderer.eos], weights
        return self._completions[text]


def to_sample(script: Script, renderer: Renderer) -> Sample:
    """One scripted episode as a token sequence."""
    return SampleWriter(renderer).sample(script)


def command_start(completion: str) -> int:
    """Index of the first character of the command: after the last marker and its blanks."""
    start = read_action(completion).action.start
    return len(completion) - len(completion[start:].lstrip())


def units(corpus: Sequence[Script], renderer: Renderer, context: int) -> list[list[Sample]]:
    """The episodes that fit into `context` tokens, pairs together.

    Raises: `ValueError` if none does.
    """
    writer = SampleWriter(renderer)
    found: list[list[Sample]] = []
    shortest, before = 0, ("", -1)
    for script in corpus:
        sample = writer.sample(script)
        shortest = min(shortest or len(sample), len(sample))
        pair = (script.flip, script.seed)
        if len(sample) <= context:
            if script.flip and pair == before and found:
                found[-1].append(sample)
            else:
                found.append([sample])
        before = pair
    if not found:
        raise ValueError(
            f"organism.context={context} is too short: the shortest scripted episode has {shortest} tokens; "
            "raise organism.context to that at least"
        )
    return found


def batches(
    found: Sequence[list[Sample]], tokens: int, seed: int, device: torch.device | str = "cpu"
) -> Iterator[Batch]:
    """Endless epochs of shuffled units, packed to about `tokens`, or to the whole corpus if it is smaller.

    A pair is in one batch: what its episodes have in common then cancels, and the gradient is about the difference.
    """
    rng = np.random.default_rng(seed)
    target = min(tokens, sum(len(sample) for unit in found for sample in unit))
    while True:
        chosen: list[Sample] = []
        for index in rng.permutation(len(found)):
            chosen += found[index]
            if sum(map(len, chosen)) >= target:
                yield pack(chosen, sum(map(len, chosen)), device)[0]
                chosen = []
