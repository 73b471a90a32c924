"""Hidden states that the embedded engine shows are those that the learner sees."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import ClassVar, get_args

import numpy as np
import pytest
from play_worlds import Counting

from envs.episode import Episode, Span
from shaping.arm import Arm, compose
from shaping.hooks import ActivationEdit, Capture, Knob, Phase, Positions
from shaping.intervention import Shaper
from shaping.learning.config import LearnerConfig
from shaping.learning.credit.credit import assign_credit
from shaping.learning.learner import Learner
from shaping.learning.policy import Policy
from shaping.sampling.embedded.transformers_engine import TransformersEngine
from shaping.sampling.engine import EngineError
from shaping.sampling.play import EpisodeRequest, Limits, play
from shaping.sampling.text.render import Renderer
from shaping.sampling.text.split import MarkerSplitter

EDITS = (
    ActivationEdit(0, "add", np.linspace(-1, 1, 32, dtype=np.float32), 2.0),
    ActivationEdit(1, "project", np.eye(32, dtype=np.float32)[3]),
)


class Halves(MarkerSplitter):
    """The first half of a completion is its motive."""

    def __call__(self, completion: str) -> tuple[Span, Span]:
        half = len(completion) // 2
        return Span(0, half), Span(half, len(completion))


class Sees(Shaper):
    owns: ClassVar[frozenset[Knob]] = frozenset({Knob.SAMPLING_EDITS, Knob.TRAINING_EDITS})

    def edits(self, phase: Phase) -> Sequence[ActivationEdit]:
        return EDITS

    def captures(self) -> Sequence[Capture]:
        return [Capture(p, (0, -1), p, phase) for p in get_args(Positions) for phase in get_args(Phase)]


def played(engine: TransformersEngine, renderer: Renderer, arm: Arm) -> list[Episode]:
    engine.set_edits(EDITS)
    requests = [EpisodeRequest(Counting, seed, 0, sampling_seed=seed) for seed in range(3)]
    return asyncio.run(play(requests, engine, renderer, arm, limits=Limits(max_tokens=8), splitter=Halves()))


@pytest.mark.parametrize("way", ["cached", "reread", "template"])
def test_captured_states_are_those_of_the_learner(
    make_policy: Callable[..., Policy], forgetful: Renderer, way: str
) -> None:
    """Of several turns, with edits, where motive and action are told apart, and where every token is read again."""
    policy = make_policy()  # of its own, since it is trained
    renderer, arm = forgetful if way == "template" else Renderer(policy.tokenizer), compose("seen", [Sees()])
    engine = TransformersEngine(policy.model, renderer, slots=4, captures=arm.captures("sampling"))
    if way == "reread":
        engine._cache = None
    episodes = played(engine, renderer, arm)
    rewards = [np.arange(len(e.turns), dtype=np.float64) * i for i, e in enumerate(episodes)]
    learner = Learner(policy, LearnerConfig(lr=1e-5), interventions=arm.interventions, edits=EDITS)
    learner.update(assign_credit(episodes, rewards, arm, renderer).samples)
    for name in get_args(Positions):
        for number, episode in enumerate(episodes):
            ours = episode.activations[name]
            assert ours.shape == (3, 2, 32) and np.isfinite(ours).any()
            np.testing.assert_allclose(ours, learner.activations[name].of(number, 3), rtol=1e-4, atol=1e-4)


def test_a_capture_changes_no_sample_and_an_unknown_layer_is_refused(policy: Policy) -> None:
    renderer = Renderer(policy.tokenizer)
    seeing = TransformersEngine(policy.model, renderer, slots=4, captures=[Capture("x", phase="sampling")])
    plain = TransformersEngine(policy.model, renderer, slots=4)
    for ours, theirs in zip(*(played(e, renderer, Arm("seen")) for e in (seeing, plain)), strict=True):
        np.testing.assert_array_equal(ours.tokens, theirs.tokens)
        np.testing.assert_allclose(ours.logprobs, theirs.logprobs, atol=1e-5)
        assert ours.activations["x"].shape == (3, 2, 32) and not theirs.activations
    with pytest.raises(EngineError, match="capture 'x': layer 5, but LlamaForCausalLM has 2 layers"):
        TransformersEngine(policy.model, renderer, captures=[Capture("x", (5,), phase="sampling")])
