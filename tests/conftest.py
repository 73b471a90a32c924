"""Fixtures that several folders share."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

os.environ.setdefault("OMP_NUM_THREADS", "1")  # one thread: results then do not depend on the machine's cores

import numpy as np
import pytest

from envs.episode import Contexts, Episode, Event, Labels, RolloutStatus, Sealed, Span, SpanKind, Turn

MakeEpisode = Callable[..., Episode]


def _turn(reward: float, events: Sequence[Event], overt: tuple[str, ...]) -> Turn:
    text = "why : because . ACTION: wait"
    return Turn(
        observation="turn . ",
        completion=text,
        motive=Span(0, 15),
        action=Span(24, len(text)),
        executed="wait",
        reward=reward,
        events=tuple(events),
        tokens=np.array([5, 6], np.int32),
        logprobs=np.array([-0.5, -0.25], np.float32),
        policy_versions=np.zeros(2, np.int32),
        overt=overt,
    )


@pytest.fixture
def make_episode() -> MakeEpisode:
    """Build an episode from rewards and public events: three observed and two sampled tokens in every turn."""

    def build(
        rewards: Sequence[float] = (0.0, 1.0),
        events: Sequence[Sequence[Event]] = (),
        *,
        seed: int = 7,
        group: int = 0,
        world: str = "steward",
        labels: Sequence[Labels] = (),
        overt: tuple[str, ...] = (),
    ) -> Episode:
        n = len(rewards)
        seen = list(events) + [()] * (n - len(events))
        turns = tuple(_turn(r, e, overt) for r, e in zip(rewards, seen, strict=True))
        sampled = np.tile([False, False, False, True, True], n)
        kinds = [SpanKind.OBSERVATION] * 3 + [SpanKind.MOTIVE, SpanKind.ACTION]
        return Episode(
            world=world,
            seed=seed,
            group=group,
            arm="test",
            status=RolloutStatus.COMPLETED,
            contexts=Contexts(),
            turns=turns,
            truth=Sealed(tuple(labels) or tuple(Labels() for _ in range(n))),
            tokens=np.arange(5 * n, dtype=np.int32),
            loss_mask=sampled,
            span_kind=np.tile(np.array(kinds, np.int8), n),
            turn_index=np.repeat(np.arange(n, dtype=np.int16), 5),
            logprobs=np.where(sampled, -0.5, 0.0).astype(np.float32),
            head=3,
        )

    return build
