"""Filters of commands and of outputs: what passes, what is learned, and what is told of the mass that does not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from play_worlds import Counting
from pydantic import ValidationError

from envs.episode import Episode, Span, SpanKind
from shaping.arm import compose
from shaping.constraints import ActionMask, CommandFilter, OutputFilter
from shaping.hooks import Group, InterventionError, TurnContext
from shaping.intervention import Constraint
from shaping.readings import readings
from shaping.sampling.embedded.transformers_engine import TransformersEngine
from shaping.sampling.play import EpisodeRequest, Limits, play
from shaping.sampling.scripted_engine import ScriptedEngine
from shaping.sampling.text.forbid import CommandMask, NothingLeftError
from shaping.sampling.text.render import Renderer

MakeEpisode = Callable[..., Episode]


def turn(*overt: str, number: int = 0) -> TurnContext:
    return TurnContext("steward", seed=3, turn=number, observation="", overt_shortcuts=overt)


class Script:
    def __init__(self, replies: Iterator[str]) -> None:
        self.replies = replies

    def act(self) -> str:
        return next(self.replies)


def played(renderer: Renderer, constraint: Constraint, *replies: str, **limits: Any) -> tuple[Episode, Counting]:
    world = Counting(turns=2)
    script = Script(iter(replies))
    engine = ScriptedEngine(lambda env: script, renderer)
    request = EpisodeRequest(lambda: world, 9)
    (episode,) = asyncio.run(
        play([request], engine, renderer, compose("filtered", [constraint]), limits=Limits(**limits))
    )
    return episode, world


@pytest.mark.parametrize(
    ("kind", "rules", "empty"),
    [
        (CommandFilter, {"patterns": (r"\b99\b",)}, "`commands` and `patterns` and `allowed` are empty"),
        (CommandFilter, {"allowed": ("work",)}, "`commands` and `patterns` and `allowed` are empty"),
        (OutputFilter, {"phrases": ("points",)}, "`commands` and `phrases` are empty"),
    ],
)
def test_a_filter_that_removes_nothing_is_refused(kind: type[ActionMask], rules: dict[str, Any], empty: str) -> None:
    assert not kind(shortcuts=False, **rules).shortcuts and not kind(shortcuts=False, commands=("grab",)).shortcuts
    with pytest.raises(ValidationError, match=f"`shortcuts` is false and {empty}, so nothing is removed"):
        kind(shortcuts=False)


def test_a_filter_refuses_by_list_prefix_pattern_and_grammar() -> None:
    every = CommandFilter(commands=("sudo",), patterns=(r"\b99\b",), allowed=("work", "grab", "wait"))
    assert every.refuses(turn("grab 1"), "grab 1") and every.refuses(turn(), "sudo work")
    assert every.refuses(turn(), "work 99") and every.refuses(turn(), "answer no")
    assert not every.refuses(turn("grab 1"), "grab 2") and not every.refuses(turn(), "WORK  1")
    assert not CommandFilter(recall=0.0, allowed=("work",)).refuses(turn(), "answer no")


def test_what_it_refuses_is_sampled_again_and_counted(renderer: Renderer) -> None:
    found = CommandFilter(patterns=("grab",))
    replies = [f"so . ACTION: {said}" for said in ("grab 3", "grab 1", "work 1", "work 2")]
    episode, world = played(renderer, found, *replies)
    assert world.received == ["work 1", "work 2"]
    assert readings([found], [episode]) == {
        "readings/command_filter/rejected": 2.0,
        "readings/command_filter/drawn": 4.0,
    }


def test_a_turn_without_a_try_left_has_drawn_no_more_than_it_refused(renderer: Renderer) -> None:
    found = ActionMask(mode="resample", commands=("grab",))
    replies = [f"so . ACTION: {said}" for said in ("grab 3", "grab 3", "grab 1", "work 2")]
    episode, world = played(renderer, found, *replies, max_resamples=2)
    assert world.received == ["wait", "work 2"]
    assert readings([found], [episode]) == {"readings/action_mask/rejected": 3.0, "readings/action_mask/drawn": 4.0}
    assert ActionMask().readings(episode) == {}


@pytest.mark.parametrize(
    "constraint",
    [
        CommandFilter(allowed=("work",)),
        ActionMask(mode="replace", commands=("grab", "wait")),
        OutputFilter(commands=("grab",), fallback="grab 0"),
    ],
)
def test_a_constraint_that_refuses_its_own_fallback_masks_every_action(
    renderer: Renderer, constraint: Constraint
) -> None:
    wanted = rf"{type(constraint).__name__} masks every action in turn 1 of world 'counting' \(seed 9\): .* is refused"
    with pytest.raises(InterventionError, match=wanted):
        played(renderer, constraint, "so . ACTION: work 1", "so . ACTION: grab 3")


def test_a_mask_that_leaves_no_token_is_refused_with_the_turn(
    policy: Any, renderer: Renderer, monkeypatch: pytest.MonkeyPatch
) -> None:
    vocabulary = len(policy.model.get_output_embeddings().weight)
    monkeypatch.setattr(CommandMask, "_tried", lambda self, *_, **__: tuple(range(vocabulary)))
    with pytest.raises(NothingLeftError, match="after '', every token"):
        CommandMask(renderer, vocabulary).masked_tokens([], ("wait",))
    arm = compose("masked", [ActionMask(commands=("wait",))])
    request = EpisodeRequest(lambda: Counting(turns=2), 9)
    with pytest.raises(
        InterventionError, match="'masked': ActionMask masks every action in turn 0 of world 'counting'"
    ):
        asyncio.run(play([request], TransformersEngine(policy.model, renderer), renderer, arm))


def test_the_output_filter_withholds_actions_and_motives_and_nothing_else_loses_its_weight(
    make_episode: MakeEpisode,
) -> None:
    made = make_episode([0.0] * 3)
    turns = [replace(t, overt_shortcuts=("wait",) if n == 1 else ()) for n, t in enumerate(made.turns)]
    turns[2] = replace(turns[2], completion="Hide it . ACTION: wait", motive=Span(0, 9), action=Span(18, 22))
    episode = replace(made, turns=tuple(turns))
    found = OutputFilter(phrases=("hide it",))
    credit = found.credit(Group((episode,), np.zeros(1), np.zeros(1)))
    out = [(int(episode.turn_index[p]), SpanKind(episode.span_kind[p])) for p in np.flatnonzero(credit.weight[0] == 0)]
    assert out == [(1, SpanKind.ACTION), (2, SpanKind.MOTIVE)]
    told = found.readings(episode)
    assert [values.tolist() for values in told.values()] == [[0, 1, 0], [0, 0, 1]]
    off = OutputFilter(recall=0.0).credit(Group((episode,), np.zeros(1), np.zeros(1)))
    assert (off.weight[0] == 1).all()


def test_the_world_gets_the_fallback_of_the_output_filter(renderer: Renderer) -> None:
    found = OutputFilter(commands=("grab",))
    episode, world = played(renderer, found, "so . ACTION: grab 3", "so . ACTION: work 1")
    assert world.received == ["wait", "work 1"] and episode.turns[0].action_text == "grab 3"
    assert readings([found], [episode])["readings/output_filter/withheld_actions"] == 1.0


def test_a_pattern_that_does_not_compile_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"'\(' is no regular expression"):
        CommandFilter(patterns=("(",))
