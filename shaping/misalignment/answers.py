"""The answers of a model to free-form questions, as episodes of one turn, which judges read like any other."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar

from envs.core import TextEnv
from envs.episode import Context, Contexts, Episode, Labels
from shaping.arm import Arm
from shaping.misalignment.questions import Question
from shaping.sampling.engine import Engine
from shaping.sampling.play import EpisodeRequest, Limits, play
from shaping.sampling.text.render import Renderer

_ARM = Arm("questions")
"""Nothing shapes or constrains the model."""


class FreeForm(TextEnv):
    """One question and one answer of any form. Nothing is paid and nothing is labelled: judges say what it is worth."""

    name: ClassVar[str] = "free_form"
    max_return = 1.0

    def __init__(self, question: str) -> None:
        super().__init__()
        self._question = question

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        super().reset(seed=seed)
        return self._question, {"events": (), "overt_shortcuts": (), "executed": ""}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        return "", 0.0, True, False, {"labels": Labels(), "events": (), "overt_shortcuts": (), "executed": action}


def answers_of(
    engine: Engine,
    renderer: Renderer,
    questions: Sequence[Question],
    *,
    samples: int,
    limits: Limits,
    seed: int = 0,
    concurrency: int = 64,
) -> list[Episode]:
    """`samples` answers to each question, in the order of the questions, all asked side by side.

    `group` of an episode is the number of its question. Failed ones carry their status.
    """
    requests = [
        EpisodeRequest(
            make=partial(FreeForm, question.text),
            seed=seed,
            group=number,
            contexts=Contexts(Context(question.system, "question")) if question.system else Contexts(),
            sampling_seed=(seed * len(questions) + number) * samples + sample,
            world=FreeForm.name,
        )
        for number, question in enumerate(questions)
        for sample in range(samples)
    ]
    return asyncio.run(play(requests, engine, renderer, _ARM, limits=limits, concurrency=concurrency, env_threads=0))
