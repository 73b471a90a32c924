"""Ask a policy off the record: the tokens of an episode up to an inquiry, then a neutral question in its place.

The episode is finished and stays as it is: no world takes part, and each answer is sampled in a session of its own.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from envs.episode import Episode, SpanKind
from shaping.monitors.beliefs.inquiries import Inquiry, OffRecord, confesses, inquiries, off_record
from shaping.monitors.beliefs.record import Belief, Elicited, fingerprint
from shaping.sampling.engine import Engine, SamplingParams, Session

if TYPE_CHECKING:
    from shaping.sampling.text.render import Renderer

_sessions = itertools.count(1 << 40)


@dataclass(frozen=True, slots=True)
class Elicitation:
    """How answers are sampled."""

    max_tokens: int = 32
    temperature: float = 1.0
    seed: int = 0
    concurrency: int = 16
    """Answers under way at once; an engine needs as many slots."""
    repeats: int = 1
    """Answers to each neutral question."""
    opening: str = ""
    """Text that opens every answer without being sampled, for models that would say something else: `ACTION: answer`.
    It must not say which answer."""


async def elicit(
    episodes: Sequence[Episode], engine: Engine, renderer: Renderer, how: Elicitation = Elicitation()
) -> list[Belief]:
    """The beliefs at every inquiry of the episodes, in their order. Equal calls give equal beliefs.

    Args:
        episodes: finished episodes; they are not changed.
        engine: samples with the policy.
        renderer: of the engine's tokenizer.
        how: how answers are sampled.
    """
    asker = _Asker(engine, renderer, how, asyncio.Semaphore(how.concurrency))
    work = [asker.belief(episode, inquiry) for episode in episodes for inquiry in inquiries(episode)]
    return list(await asyncio.gather(*work))


def before(episode: Episode, turn: int, question: str, renderer: Renderer) -> list[int]:
    """The tokens of an episode up to a turn, and a question in place of the turn's observation."""
    system = episode.contexts.sampling.system
    if turn == 0:
        return renderer.open(system, question)
    last = episode.turns[turn - 1]
    if renderer.stable and len(episode.segments) == 1:
        places = (episode.turn_index == turn) & (episode.span_kind == SpanKind.OBSERVATION)
        start = int(np.flatnonzero(places)[0])
        finished = bool(len(last.tokens)) and int(last.tokens[-1]) == renderer.eos
        return [*episode.tokens[:start].tolist(), *renderer.extend(question, finished=finished)]
    from shaping.sampling.text.template import Message  # transformers, which a list of monitors does not need

    said = [
        message
        for each in episode.turns[:turn]
        for message in (Message("user", each.observation), Message("assistant", each.completion))
    ]
    return renderer.conversation([Message("system", system)] * bool(system) + [*said, Message("user", question)])


@dataclass(frozen=True, slots=True)
class _Asker:
    engine: Engine
    renderer: Renderer
    how: Elicitation
    gate: asyncio.Semaphore

    async def belief(self, episode: Episode, inquiry: Inquiry) -> Belief:
        asked = [each for each in off_record(inquiry, episode.world) for _ in range(self.how.repeats)]
        opening = self.renderer.plain(self.how.opening)
        prompts = [[*before(episode, inquiry.turn, each.text, self.renderer), *opening] for each in asked]
        about = {"episode": fingerprint(episode), "world": episode.world, "seed": episode.seed}
        about |= {"turn": inquiry.turn, "admits": inquiry.admits}
        if max(map(len, prompts)) + self.how.max_tokens > self.engine.context_length:
            return Belief(**about, elicited=(), dropped="too long for the model's context")
        keys = np.random.SeedSequence([self.how.seed, episode.seed, inquiry.turn]).generate_state(len(asked), np.uint64)
        each = zip(asked, prompts, keys.tolist(), strict=True)
        answers = await asyncio.gather(*(self.answer(*one, episode.world) for one in each))
        return Belief(**about, elicited=tuple(answers))

    async def answer(self, asked: OffRecord, prompt: list[int], seed: int, world: str) -> Elicited:
        session = Session(next(_sessions), cast(Any, None))  # no world: there is nothing that could be played on
        params = SamplingParams(self.how.max_tokens, self.how.temperature, seed >> 1)
        async with self.gate:
            self.engine.open(session)
            try:
                completion = await self.engine.complete(session, prompt, params)
            finally:
                self.engine.close(session)
        reply = self.renderer.text([*self.renderer.plain(self.how.opening), *completion.tokens.tolist()])
        said = confesses(reply, asked.turned, world)
        return Elicited(question=asked.text, turned=asked.turned, reply=reply, confesses=said)
