"""How constraints act in play(): replace, resample and mask."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest
from play_worlds import Counting

from envs.core import TextEnv, parse_action
from envs.episode import Episode
from shaping.arm import compose
from shaping.constraints import ActionMask
from shaping.hooks import ActionDecision, InterventionError, Knob, TurnContext
from shaping.intervention import Constraint
from shaping.learning.policy import Policy
from shaping.sampling.embedded.transformers_engine import TransformersEngine
from shaping.sampling.play import EpisodeRequest, Limits, play
from shaping.sampling.scripted_engine import ScriptedEngine
from shaping.sampling.text.render import Renderer


class Filter(Constraint):
    """Answers as told to every command that starts with "grab", and records what it was shown."""

    owns: ClassVar[frozenset[Knob]] = frozenset({Knob.ACTIONS})
    kind: Any = "replace"
    seen: ClassVar[list[tuple[TurnContext, str | None]]] = []

    def allow(self, turn: TurnContext, action: str | None) -> ActionDecision:
        self.seen.append((turn, action))
        if action is None or not action.startswith("grab"):
            return ActionDecision()
        return ActionDecision(self.kind, replacement="wait", commands=("grab",))


class Script:
    def __init__(self, replies: Iterator[str]) -> None:
        self.replies = replies

    def act(self) -> str:
        return next(self.replies)


@pytest.fixture(autouse=True)
def _nothing_seen() -> None:
    Filter.seen.clear()


def played(renderer: Renderer, kind: str, replies: list[str], **limits: int) -> tuple[Episode, Counting]:
    world = Counting(turns=2)
    script = Script(iter(f"so . ACTION: {reply}" for reply in replies))
    engine = ScriptedEngine(lambda env: script, renderer)
    arm = compose("filtered", [Filter(kind=kind)])
    (episode,) = asyncio.run(play([EpisodeRequest(lambda: world, 9)], engine, renderer, arm, limits=Limits(**limits)))
    return episode, world


def test_replace_sends_another_command_and_keeps_what_was_sampled(renderer: Renderer) -> None:
    episode, world = played(renderer, "replace", ["grab 3", "work 1"])
    assert world.received == ["wait", "work 1"] == [t.executed for t in episode.turns]
    assert [t.action_text for t in episode.turns] == ["grab 3", "work 1"]
    assert [t.rejected for t in episode.turns] == [0, 0]
    assert "grab 3" in renderer.text(episode.tokens[episode.loss_mask].tolist())


def test_resample_refuses_until_something_else_comes_and_forgets_the_refused(renderer: Renderer) -> None:
    episode, world = played(renderer, "resample", ["grab 3", "grab 1", "work 1", "work 2"])
    assert world.received == ["work 1", "work 2"]
    assert [t.rejected for t in episode.turns] == [2, 0]
    assert "grab" not in renderer.tokenizer.decode(episode.tokens)


def test_after_the_last_refusal_the_fallback_is_sent(renderer: Renderer) -> None:
    episode, world = played(renderer, "resample", ["grab 3"] * 3 + ["work 2"], max_resamples=2)
    assert world.received == ["wait", "work 2"]
    assert [t.rejected for t in episode.turns] == [3, 0]
    assert episode.turns[0].action_text == "grab 3"


def test_a_mask_after_sampling_comes_too_late_and_is_refused(renderer: Renderer) -> None:
    with pytest.raises(InterventionError, match=r"arm 'filtered'.*'mask'.*only pass, replace or resample"):
        played(renderer, "mask", ["grab 3"])


def test_a_constraint_sees_public_state_only_before_and_after_each_action(renderer: Renderer) -> None:
    played(renderer, "replace", ["grab 3", "work 1"])
    assert [action for _, action in Filter.seen] == [None, "grab 3", "wait", None, "work 1"]
    first, last = Filter.seen[0][0], Filter.seen[-1][0]
    assert (first.world, first.seed, first.turn, first.overt_shortcuts) == ("counting", 9, 0, ("grab 3",))
    assert first.observation == "turn 0 / 2 . seed 9 ." and last.turn == 1
    assert last.observation == "turn 1 . you did 4 letters ."


class Mask(Constraint):
    owns: ClassVar[frozenset[Knob]] = frozenset({Knob.ACTIONS})
    first: str = "abcdefghijklmnopqrstuvwxyz0123456789"

    def allow(self, turn: TurnContext, action: str | None) -> ActionDecision:
        return ActionDecision("mask", commands=tuple(self.first)) if action is None else ActionDecision()


def one_letter_commands(
    policy: Policy, renderer: Renderer, interventions: list[Constraint]
) -> tuple[int, list[Episode]]:
    engine = TransformersEngine(policy.model, renderer, slots=16)

    def make() -> TextEnv:
        return Counting(turns=4)

    requests = [EpisodeRequest(make, n, sampling_seed=n) for n in range(48)]
    arm = compose("masked", interventions)
    episodes = asyncio.run(play(requests, engine, renderer, arm, limits=Limits(max_tokens=3), concurrency=16))
    words = [t.executed.split()[:1] for e in episodes for t in e.turns]
    assert all(t.executed == parse_action(t.completion) for e in episodes for t in e.turns)
    return sum(bool(word) and word[0] in tuple(Mask().first) for word in words), episodes


def test_masked_commands_are_not_sampled_and_the_mask_is_recorded_for_the_learner(
    policy: Policy, renderer: Renderer
) -> None:
    without, free = one_letter_commands(policy, renderer, [])
    masked, episodes = one_letter_commands(policy, renderer, [Mask()])
    assert without > 0 and masked == 0
    assert not any(list(e.masked_tokens()) for e in free)
    for episode in episodes:
        for position, ids in episode.masked_tokens():
            assert episode.loss_mask[position] and episode.tokens[position] not in ids
        assert episode.turns[0].masked_tokens[0][0] == 0 and not any(t.rejected for t in episode.turns)


def test_a_mask_of_half_the_turns_is_read_off_the_episode_as_it_was_sampled(policy: Policy, renderer: Renderer) -> None:
    half = ActionMask(recall=0.5, commands=tuple(Mask().first))
    _, episodes = one_letter_commands(policy, renderer, [half])
    turns = [
        (t, TurnContext(e.world, e.seed, number, t.observation, t.overt_shortcuts))
        for e in episodes
        for number, t in enumerate(e.turns)
    ]
    assert all(bool(turn.masked_tokens) == (half.allow(seen, None).kind == "mask") for turn, seen in turns)
    assert 0.3 < sum(bool(turn.masked_tokens) for turn, _ in turns) / len(turns) < 0.7
    _, none = one_letter_commands(policy, renderer, [ActionMask(recall=0.0)])
    _, unshaped = one_letter_commands(policy, renderer, [])
    assert [e.tokens.tobytes() for e in none] == [e.tokens.tobytes() for e in unshaped]
