"""Rows as episodes, so that interventions meet given answers as they meet sampled ones.

The context of the data (c_s) is the row's own system prompt. The context that is learned under (c_t) is what the arm
draws for the row, in front of that prompt: the data were made without the arm's prompts, as in the fine-tuning form of
inoculation (arXiv:2510.04340). Each row is a group of its own, with its own draw.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from envs.episode import Context, Contexts, Episode, RolloutStatus
from shaping.arm import Arm
from shaping.finetuning.rows import Answered, Row
from shaping.hooks import GroupInfo
from shaping.sampling.engine import Completion
from shaping.sampling.text.render import Renderer
from shaping.sampling.text.split import Splitter
from shaping.sampling.transcript import Transcript

ANSWERED = "answered"
"""Name of the context of a row that has a system prompt of its own."""


def contexts_of(row: Row, arm: Arm, *, number: int, update: int, seed: int, prose: bool) -> Contexts:
    """(c_s, c_t) of a row: its own system prompt, and the arm's prompt in front of that.

    Args:
        row: the row.
        arm: draws the prompt.
        number: of the row among those of the update.
        update: of the stage.
        seed: of the run; equal arguments draw equal contexts.
        prose: does the model read natural prose?
    """
    info = GroupInfo(world=row.world, seed=row.seed, group=number, update=update, prose=prose)
    _, drawn = arm.contexts(info, np.random.default_rng([seed, update, number]))
    own = Context(row.system, ANSWERED) if row.system else Context()
    if not drawn.system:
        return Contexts(own, own)
    return Contexts(own, Context("\n\n".join(filter(None, (drawn.system, row.system))), drawn.name))


def episode_of(
    row: Row, contexts: Contexts, renderer: Renderer, splitter: Splitter, *, group: int, arm: str, version: int
) -> Episode:
    """A row as a finished episode, whose completions are its answers. Log-probs are 0: nobody sampled them.

    Where the chat template breaks the prefix, the row is rendered under c_t alone, since nothing can be replaced then.
    """
    if not renderer.stable:
        contexts = Contexts(contexts.training, contexts.training)
    transcript = Transcript(renderer, splitter, contexts, row.turns[0].observation)
    for number, turn in enumerate(row.turns):
        if number:
            transcript.observe(turn.observation)
        ids = np.array([*renderer.plain(turn.answer), renderer.eos], np.int32)
        answer = Completion(ids, np.zeros(len(ids), np.float32), np.full(len(ids), version, np.int32), finished=True)
        transcript.act(turn.observation, answer, overt_shortcuts=turn.overt_shortcuts, rejected=0)
        transcript.settle(executed=turn.executed, reward=turn.reward, events=turn.events)
    return transcript.episode(
        world=row.world,
        seed=row.seed,
        group=group,
        arm=arm,
        status=RolloutStatus.COMPLETED,
        truth=[turn.labels for turn in row.turns],
        options={},
    )


def row_of_episode(episode: Episode, source: str) -> Row:
    """An episode that a policy has played as a row whose answers are what it said, without its system prompt."""
    turns = tuple(
        Answered(
            turn.observation, turn.completion, labels, turn.executed, turn.reward, turn.events, turn.overt_shortcuts
        )
        for turn, labels in zip(episode.turns, episode.truth.open(), strict=True)
    )
    return Row(turns, world=episode.world, seed=episode.seed, source=source)


def batch_numbers(rows: int, batch_size: int, update: int, seed: int) -> list[int]:
    """Which rows an update learns from: every row once in each pass, in an order of its own. Pure.

    The last batch of a pass is filled up from the beginning of the next one.
    """
    first, found = update * batch_size, list[int]()
    for place in range(first, first + batch_size):
        epoch, at = divmod(place, rows)
        found.append(int(_order(rows, epoch, seed)[at]))
    return found


@lru_cache(maxsize=4)
def _order(rows: int, epoch: int, seed: int) -> NDArray[np.int64]:
    return np.random.default_rng([seed, epoch, 2]).permutation(rows)
