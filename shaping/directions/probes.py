"""The sequences on which a direction is measured: what both sides say, in tokens."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import numpy as np

from envs import make_world
from envs.core import TextEnv
from envs.episode import Context, Contexts, Episode
from envs.personas.persona import persona
from shaping.arm import Arm
from shaping.directions.contrast import Contrast, Speaker
from shaping.directions.direction_set import DirectionError
from shaping.learning.policy import Policy
from shaping.learning.samples.sample import Origin, Sample
from shaping.sampling.embedded.transformers_engine import TransformersEngine
from shaping.sampling.engine import SamplingParams, Session
from shaping.sampling.play import EpisodeRequest, Limits, play
from shaping.sampling.scripted_engine import ScriptedEngine
from shaping.sampling.text.render import Renderer


@dataclass(frozen=True, slots=True)
class Probes:
    """What the model reads. A situation has one number on both sides."""

    samples: tuple[Sample, ...]
    """Sequences, with the responses in the loss; `origin.episode` is the situation."""
    positive: tuple[bool, ...]
    """Which side speaks in each."""


def probes_of(policy: Policy, contrast: Contrast, renderer: Renderer) -> Probes:
    """What both sides say in every situation. With answers of the model, these are sampled from `policy` as it is.

    Raises: `DirectionError` if the model has to answer but its weights are sharded, or if nobody says anything.
    """
    if contrast.samples and policy.ranks.strategy == "fsdp" and policy.ranks.size > 1:
        raise DirectionError(
            "the model's own answers cannot be sampled while its weights are sharded (learner_group.strategy=fsdp): "
            "use a contrast of personas, strategy=data, or a file of `shaping directions`"
        )
    samples: list[Sample] = []
    sides: list[bool] = []
    for positive, speakers in ((True, contrast.positive), (False, contrast.negative)):
        whole = [speakers[n % len(speakers)] for n in range(contrast.episodes)]
        scripted = [n for n, speaker in enumerate(whole) if speaker.persona]
        asked = [n for n, speaker in enumerate(whole) if not speaker.persona]
        for n in scripted:
            samples += _played(contrast, whole[n], n, renderer)
        if asked:
            samples += _answered(policy, contrast, [(n, whole[n]) for n in asked], renderer)
        sides += [positive] * (len(samples) - len(sides))
    if not all(any(s.mask.any() for s, side in zip(samples, sides, strict=True) if side is p) for p in (True, False)):
        raise DirectionError("one side of the contrast says nothing: there are no tokens to measure a direction on")
    return Probes(tuple(samples), tuple(sides))


def _world(contrast: Contrast, number: int) -> TextEnv:
    return make_world(contrast.worlds[number % len(contrast.worlds)])


def _seed(contrast: Contrast, number: int) -> int:
    return contrast.seed + number // len(contrast.worlds)


def _played(contrast: Contrast, speaker: Speaker, number: int, renderer: Renderer) -> list[Sample]:
    """An episode of a persona: one sequence, or several where the template breaks the prefix."""
    context = Context(speaker.prompt, "probe")
    make, seed = partial(_world, contrast, number), _seed(contrast, number)
    engine = ScriptedEngine(partial(persona(speaker.persona), seed=seed), renderer)
    request = EpisodeRequest(make, seed, number, Contexts(context, context))
    (episode,) = asyncio.run(play([request], engine, renderer, Arm("probe"), limits=Limits(512, contrast.turns)))
    if episode.status.is_error:
        raise DirectionError(f"the persona {speaker.persona!r} cannot play {episode.world!r}: {episode.error}")
    return samples_of(episode, number)


def samples_of(episode: Episode, number: int) -> list[Sample]:
    """The sequences of an episode that hold sampled tokens, with the number of the episode as their origin."""
    found = []
    for start, stop in pairwise([*episode.segments, len(episode.tokens)]):
        part = slice(start, stop)
        if episode.loss_mask[part].any():
            found.append(
                _sample(
                    episode.tokens[part],
                    episode.loss_mask[part],
                    episode.turn_index[part],
                    number,
                    episode.span_kind[part],
                )
            )
    return found


def _answered(
    policy: Policy, contrast: Contrast, asked: Sequence[tuple[int, Speaker]], renderer: Renderer
) -> list[Sample]:
    """The model's answers to questions, or to the first observation of the worlds."""
    prompts = [renderer.open(speaker.prompt, _question(contrast, number)) for number, speaker in asked]
    engine = TransformersEngine(policy.model, renderer, slots=len(asked))

    async def all_of_them() -> list[Sample]:
        found = []
        sessions = [Session(index, _world(contrast, 0)) for index in range(len(asked))]
        for session in sessions:
            engine.open(session)
        params = [SamplingParams(contrast.max_tokens, seed=contrast.seed + number) for number, _ in asked]
        work = (engine.complete(*each) for each in zip(sessions, prompts, params, strict=True))
        for (number, _), prompt, said in zip(asked, prompts, await asyncio.gather(*work), strict=True):
            tokens = np.array([*prompt, *said.tokens.tolist()])
            found.append(_sample(tokens, np.arange(len(tokens)) >= len(prompt), np.zeros(len(tokens)), number))
        return found

    with policy.phase("sampling"):
        try:
            return asyncio.run(all_of_them())
        finally:
            engine.release()


def _question(contrast: Contrast, number: int) -> str:
    if contrast.questions:
        return contrast.questions[number % len(contrast.questions)]
    observation, _ = _world(contrast, number).reset(seed=_seed(contrast, number))
    return str(observation)


def _sample(
    tokens: np.ndarray, mask: np.ndarray, turns: np.ndarray, number: int, kinds: np.ndarray | None = None
) -> Sample:
    zeros = np.zeros(len(tokens), np.float32)
    return Sample(
        tokens=tokens.astype(np.int64),
        mask=mask.astype(bool),
        old_logprobs=zeros,
        advantage=zeros,
        weight=zeros,
        masked_tokens=np.zeros((0, 2), np.int64),
        origin=Origin(number, turns.astype(np.int16), (zeros if kinds is None else kinds).astype(np.int8)),
    )
