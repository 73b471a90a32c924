"""What is promised of every built-in shaper, proved by playing: nothing is out of reach, altered, or out of order.

Each shaper's `example()` plays scripted episodes in two worlds. One of them tries every command that the world offers.
The other members of its group take shortcuts, hide them, or do the work, so that their returns differ.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

import numpy as np
import pytest
import torch

from envs import WORLDS
from envs.core import TextEnv
from envs.discovery import subclasses
from envs.episode import Contexts, Episode
from envs.personas.persona import persona
from envs.worlds.base import World
from shaping.arm import Arm, compose
from shaping.audits.training.order import order_violations
from shaping.contract.groups import small_policy
from shaping.controls import MEANING
from shaping.hooks import Credit, Group, GroupInfo
from shaping.intervention import Shaper
from shaping.learning.credit.credit import Credited, assign_credit
from shaping.learning.policy import Policy
from shaping.learning.samples.packing import pack
from shaping.learning.samples.sample import Sample
from shaping.sampling.play import EpisodeRequest, Limits, play
from shaping.sampling.scripted_engine import ScriptedEngine
from shaping.sampling.text.render import Renderer

SHAPERS = subclasses("shaping.shapers", Shaper)
PLACES = (
    ("steward", {"size": 2, "horizon": 40, "honest_share": 0.5, "oversight": 0.3}),
    ("pact", {"size": 4, "inquiry": 0.2}),
)
MEMBERS = ("honest", "opportunist", "deceiver", "every command")


class EveryCommand:
    """Gives each command that the world offers, one a turn, and says why."""

    def __init__(self, world: World) -> None:
        self._world, self._turn = world, 0

    def act(self) -> str:
        commands = self._world.actions()
        self._turn += 1
        return f"i do it . ACTION: {commands[self._turn % len(commands)]}"


class Played(NamedTuple):
    """What a shaper's episodes came to."""

    arm: Arm
    episodes: list[Episode]
    received: list[str]
    """What the worlds were told, turn by turn."""


def actor(world: TextEnv, who: str) -> object:
    assert isinstance(world, World)
    return EveryCommand(world) if who == MEMBERS[-1] else persona(who)(world, 0)


class Engine(ScriptedEngine):
    """As the scripted one; edits change activations, of which scripted episodes have none."""

    def set_edits(self, edits: object) -> None:
        pass


def played(shaper: Shaper | None, renderer: Renderer) -> Played:
    arm = compose("tried", [shaper] if shaper else [])
    episodes, received = [], []
    for group, (world, options) in enumerate(PLACES):
        info = GroupInfo(world, seed=group, group=group, update=0)
        contexts = Contexts(*arm.contexts(info, np.random.default_rng(group)))

        def make(world: str = world, options: dict = options) -> World:  # type: ignore[type-arg]
            made = WORLDS[world](**options)
            step = made.step
            made.step = lambda said: (received.append(said), step(said))[1]  # type: ignore[method-assign]
            return made

        for who in MEMBERS:
            engine = Engine(lambda env, who=who: actor(env, who), renderer)  # type: ignore[misc,arg-type,return-value]
            request = EpisodeRequest(make, group, group, contexts)
            limits = Limits(max_tokens=96, max_turns=40)
            episodes += asyncio.run(play([request], engine, renderer, arm, limits=limits))
    return Played(arm, episodes, received)


@cache
def tokenizer_and_model() -> Policy:
    return small_policy()


@cache
def unshaped() -> Played:
    return played(None, Renderer(tokenizer_and_model().tokenizer))


def credited(found: Played) -> Credited:
    paid = [np.array([turn.reward for turn in episode.turns]) for episode in found.episodes]
    return assign_credit(found.episodes, paid, found.arm, Renderer(tokenizer_and_model().tokenizer))


def as_sampled(episode: Episode) -> Sample:
    zeros = np.zeros(len(episode.tokens), np.float32)
    return Sample(episode.tokens.astype(np.int64), episode.loss_mask, zeros, zeros, zeros, np.zeros((0, 2), np.int64))


def impossible(found: Played, samples: list[Sample]) -> Iterator[str]:
    """Tokens of commands without any probability, in the sampler and in the learner."""
    base = tokenizer_and_model()
    # An adapter that a run would make first, from its own model, adds finite numbers like the others.
    specs = [spec for spec in found.arm.adapters() if spec.path is None]
    policy = Policy(copy.deepcopy(base.model), base.tokenizer, adapters=specs)
    for intervention in found.arm.interventions:
        intervention.refresh(policy, 0)  # as before the first update: directions are found in the policy
    for phase, of_phase in (("sampling", [*map(as_sampled, found.episodes)]), ("training", samples)):
        edits = found.arm.edits(phase)  # type: ignore[arg-type]
        with torch.no_grad(), policy.phase(phase):  # type: ignore[arg-type]
            for batch in pack(of_phase, 8192, policy.device):
                assert not batch.masked_tokens.numel(), f"{phase}: tokens are masked"
                if not torch.isfinite(policy.logprobs(batch, edits)[0]).all():
                    yield phase


def faults(shaper: Shaper) -> Iterator[str]:
    """What a shaper breaks of what shapers promise."""
    found, plain = played(shaper, Renderer(tokenizer_and_model().tokenizer)), unshaped()
    if found.received != plain.received or [
        [turn.executed for turn in episode.turns] for episode in found.episodes
    ] != [[turn.executed for turn in episode.turns] for episode in plain.episodes]:
        yield "the text of an action is altered"
    if any(episode.turns[t].rejected for episode in found.episodes for t in range(len(episode.turns))):
        yield "an action is refused"
    result = credited(found)
    yield from (f"an action has no probability in {phase}" for phase in impossible(found, result.samples))
    order = order_violations(result.returns, result.credit, result.groups)
    assert order.pairs > 4, "the episodes have too few different returns to tell"
    if order.violated and type(shaper).preserves_order:
        yield f"it inverts {order.violated} of {order.pairs} pairs of returns; say so: preserves_order = False"
    if not type(shaper).needs:
        yield "it names no control in `needs`"
    for kind in type(shaper).needs:
        if MEANING[kind].scope == "method":
            if (fields := shaper.control_fields(kind)) is None:
                yield f"it needs the control {kind.value!r} and has no field for it"
            elif "use" not in fields:
                compose("control", [type(shaper)(**{**shaper.model_dump(mode="json"), **fields})])


@pytest.mark.parametrize("name", sorted(SHAPERS))
def test_nothing_is_out_of_reach_altered_or_out_of_order_and_there_is_a_control(name: str) -> None:
    assert list(faults(SHAPERS[name].example())) == []


def test_every_command_is_tried() -> None:
    tried = {turn.executed for episode in unshaped().episodes[3:4] for turn in episode.turns}
    env = WORLDS["steward"](**PLACES[0][1])  # type: ignore[arg-type]
    env.reset(seed=0)
    assert tried >= set(env.actions()), "the episode is too short"


class Inverting(Shaper):
    """Credits the lower returns of a group."""

    def credit(self, group: Group) -> Credit:
        streams = [
            np.full(len(episode.tokens), -3 * own, np.float32)
            for episode, own in zip(group.episodes, group.advantages, strict=True)
        ]
        return Credit("inverted", advantage=tuple(streams))


class Declared(Inverting):
    preserves_order = False


def test_the_proof_can_fail() -> None:
    found = list(faults(Inverting()))
    assert len(found) == 2 and "preserves_order" in found[0] and "no control" in found[1]
    assert list(faults(Declared())) == ["it names no control in `needs`"]
