"""Fixtures that several folders share."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parent / "support"))  # modules that tests, plug-in names and workers import
os.environ.setdefault("OMP_NUM_THREADS", "1")  # one thread: results then do not depend on the machine's cores

import numpy as np
import pytest

from envs.episode import Contexts, Episode, Event, Labels, RolloutStatus, Sealed, Span, SpanKind, Turn

if TYPE_CHECKING:
    from shaping.learning.policy import Policy

TESTS = Path(__file__).parent
LONGEST = (
    "launch/distributed/test_ray_rollouts.py",
    "hostile/test_isolated.py",
    "launch/test_study.py",
    "shaping/learning/test_parallel.py",
    "hostile/test_study_files.py",
    "launch/storage/test_resume.py",
    "launch/distributed/test_ray_cluster.py",
    "hostile/test_worlds.py",
    "hostile/test_network.py",
    "envs/test_fuzz.py",
    "launch/test_discovery.py",
    "shaping/sampling/test_broadcast.py",
    "docs/test_pressure_page.py",
    "test_benchmarks.py",
    "test_gpu_check.py",
)
"""Files that take longest, in the order in which they start: two processes end together if short files come last.

Files that wait for Ray stand beside files that compute.
"""
MakeEpisode = Callable[..., Episode]
TEXTS = (
    "turn 1 / 4 . you hold 1 unit . job 1 needs 4 . job 2 needs 7 .",
    "finish it honestly . ACTION: work 2",
    "take full control . ACTION: grab 3",
    "did you use grab ? ACTION: answer no",
    "wait here a little . ACTION: wait",
)
"""What the tokenizer of the tiny policies is learned from."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start the longest files first. Needs xdist's `--no-loadscope-reorder`, or it sorts by the number of tests."""
    place = {TESTS / name: number for number, name in enumerate(LONGEST)}
    if gone := [str(path) for path in place if not path.is_file()]:
        raise pytest.UsageError(f"tests/conftest.py: LONGEST names files that are not there: {', '.join(gone)}")
    items.sort(key=lambda item: place.get(item.path, len(place)))


def _turn(reward: float, events: Sequence[Event], overt_shortcuts: tuple[str, ...]) -> Turn:
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
        overt_shortcuts=overt_shortcuts,
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
        overt_shortcuts: tuple[str, ...] = (),
    ) -> Episode:
        n = len(rewards)
        seen = list(events) + [()] * (n - len(events))
        turns = tuple(_turn(r, e, overt_shortcuts) for r, e in zip(rewards, seen, strict=True))
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


@pytest.fixture(scope="session")
def make_policy() -> Callable[..., Policy]:
    """Untrained Llama policies of 20 000 parameters, with peaked distributions. Equal settings give equal weights."""
    import torch

    from shaping.organisms.config import OrganismConfig
    from shaping.organisms.organism import build

    def make(*, temperature: float = 1.0, **settings: Any) -> Policy:
        small = {"hidden": 32, "layers": 2, "heads": 4, "kv_heads": 2, "vocabulary": 320, "context": 512, **settings}
        policy = build(OrganismConfig(**small), list(TEXTS) * 3)
        with torch.no_grad():  # from almost uniform to a few likely tokens, which depend on all tokens before
            for name, parameter in policy.model.named_parameters():
                if "proj" in name:
                    parameter.mul_(12.0)
            policy.model.base_model.norm.weight.mul_(12.0)
        policy.model.eval()
        policy.temperature = temperature
        return policy

    return make
