"""Hidden states of finished episodes, from passes over their tokens: under the policy, or under another model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import torch

from envs.episode import Episode
from shaping.directions.probes import samples_of
from shaping.hooks import Capture
from shaping.learning.captures import Recorder, States
from shaping.learning.mode import without_dropout
from shaping.learning.policy import Policy
from shaping.learning.samples.packing import Batch, pack
from shaping.learning.samples.sample import Sample

BUDGET = 8192
"""Tokens of one pass; a longer sequence has a pass of its own."""


@torch.no_grad()
def passes(
    policy: Policy, samples: Sequence[Sample], recorder: Recorder
) -> Iterator[tuple[Batch, Mapping[str, States]]]:
    """Yield every micro-batch of the samples with the states that the recorder asks for, by name of the capture.

    The model is in evaluation mode. Which adapters are active is the caller's choice.
    """
    budget = max([BUDGET, *map(len, samples)])
    without_dropout(policy.model)
    for batch in pack(samples, budget, policy.device, padded=policy.padded):
        yield batch, recorder.captured(batch, policy.states(batch, recorder.wanted(batch)))


def with_states(
    policy: Policy, episodes: Sequence[Episode], captures: Sequence[Capture], adapters: Sequence[str] | None = None
) -> list[Episode]:
    """The episodes with `activations` as an engine with these weights would have shown them, without sampling.

    A monitor that reads states then scores the same text under any model with the same tokenizer: under the policy
    (`p_pol`) and under the frozen model that training began with (`p_ref`; arXiv:2602.15515).

    Args:
        policy: the model.
        episodes: finished episodes; their tokens must be of this model's tokenizer.
        captures: what to record, whatever phase they name.
        adapters: names of the active ones; None: those of the sampling phase. Empty: the bare base.
    Raises: `InterventionError` if the model lacks a layer; ValueError if a token is not in its vocabulary.
    """
    size = policy.model.get_input_embeddings().num_embeddings
    if any(len(e.tokens) and int(e.tokens.max()) >= size for e in episodes):
        raise ValueError(
            f"an episode holds tokens above the model's vocabulary of {size}: it was sampled with another tokenizer"
        )
    recorder = Recorder(policy.model, captures)
    names = policy.of_player(policy.adapters.names(phase="sampling")) if adapters is None else tuple(adapters)
    samples = [sample for number, episode in enumerate(episodes) for sample in samples_of(episode, number)]
    with policy.adapters.using(names):
        for batch, captured in passes(policy, samples, recorder):
            recorder.add(batch, captured)
    found = recorder.means(policy.ranks)
    return [
        replace(
            episode,
            activations={
                **episode.activations,
                **{name: of_all.of(number, len(episode.turns)) for name, of_all in found.items()},
            },
        )
        for number, episode in enumerate(episodes)
    ]
