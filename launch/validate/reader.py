"""Labelled episodes with the hidden states that a model has of them: scripted players', its own, and those of runs."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from envs.core import TextEnv
from envs.episode import Episode
from launch.check_model.subject import subject
from launch.config.plugins import build_world
from launch.config.reading.recorded import recorded_run
from launch.errors import UserError
from launch.run.models.load_policy import load_trained
from launch.run.seeds import derive
from launch.storage.finished import finished_run
from launch.validate.sources import Labelled
from shaping.arm import Arm
from shaping.audits.pressure.scripted import Make
from shaping.directions.replay import with_states
from shaping.hooks import Capture
from shaping.learning.policy import Policy
from shaping.monitors.belief import BeliefCheck
from shaping.monitors.beliefs.elicit import Elicitation, elicit
from shaping.monitors.beliefs.record import write_beliefs
from shaping.monitors.validation.judge import Origin
from shaping.monitors.validation.scripted import players_of
from shaping.sampling.embedded.transformers_engine import TransformersEngine
from shaping.sampling.play import EpisodeRequest, Limits, play
from shaping.sampling.scripted_engine import ScriptedEngine
from shaping.sampling.text.render import Renderer

LONGEST = 256
"""Tokens of a scripted completion at most."""
ASIDE = "ACTION: answer"
"""What opens the answers off the record of a model that knows commands alone."""


class Reader:
    """A model that plays, and that reads what others have played.

    Args:
        model: as the command line names it.
        max_tokens: of its own completions.
    """

    def __init__(self, model: str, max_tokens: int) -> None:
        self._max_tokens = max_tokens
        self._subject = subject(model)

    @cached_property
    def policy(self) -> Policy:
        """The model, in evaluation mode."""
        policy = Policy.load(self._subject.directory, device="auto", name=self._subject.name)
        policy.model.eval()
        return policy

    @cached_property
    def renderer(self) -> Renderer:
        """Of its tokenizer."""
        return Renderer(self.policy.tokenizer)

    def played(self, name: str, options: Mapping[str, Any], episodes: int) -> Labelled:
        """Episodes that the model plays without prompts. Raises `UserError` if none of them is sound."""
        engine = TransformersEngine(self.policy.model, self.renderer)
        requests = _requests(name, options, episodes)
        limits = Limits(max_tokens=self._max_tokens)
        found = asyncio.run(play(requests, engine, self.renderer, Arm("model"), limits=limits))
        sound = [e for e in found if not e.status.is_error and e.turns]
        if not sound:
            why = next((e.error for e in found if e.error), "no episode had a turn")
            raise UserError(f"--model: {self._subject.name} plays {name} without a single sound episode: {why}")
        labelled = Labelled()
        labelled.add(sound, Origin(self._subject.name, "model"))
        return labelled

    def scripted(self, name: str, options: Mapping[str, Any], episodes: int) -> Labelled:
        """`episodes` episodes of every scripted player of a world, in the tokens of the model. Others are left out."""
        found = Labelled()
        world = build_world(name, options, "world")
        try:
            players = players_of(world)
        finally:
            world.close()
        for player, (conduct, make) in players.items():
            said = [self._scripted(request, make, player) for request in _requests(name, options, episodes)]
            sound = [e for e in said if not e.status.is_error and e.turns]
            if not sound:
                raise UserError(f"world {name}: {player!r} plays no episode that the model can read: {said[0].error}")
            found.add(sound, Origin(player, conduct))
        return found

    def _scripted(self, request: EpisodeRequest, make: Make, player: str) -> Episode:
        engine = ScriptedEngine(lambda env: make(env, request.seed), self.renderer)
        limits = Limits(max_tokens=LONGEST)
        (episode,) = asyncio.run(play([request], engine, self.renderer, Arm(player), limits=limits))
        return episode

    def seen(self, labelled: Labelled, captures: Sequence[Capture]) -> Labelled:
        """The same episodes with the model's hidden states of them."""
        if not captures:
            return labelled
        return replace(labelled, episodes=with_states(self.policy, labelled.episodes, captures, ()))

    def beliefs(self, labelled: Labelled, out: Path) -> BeliefCheck:
        """A monitor of what the model says off the record about its own episodes, which is written to `out`."""
        engine = TransformersEngine(self.policy.model, self.renderer, slots=Elicitation().concurrency)
        how = Elicitation(max_tokens=self._max_tokens, opening=ASIDE)
        write_beliefs(out, asyncio.run(elicit(labelled.episodes, engine, self.renderer, how)))
        return BeliefCheck(path=str(out))


def seen_by_run(path: Path, labelled: Labelled, captures: Sequence[Capture]) -> Labelled:
    """A run's episodes with the hidden states that its trained policy has of them."""
    directory = finished_run(path)
    policy = load_trained(recorded_run(directory.config()), directory.checkpoint)
    kept = policy.adapters.names("kept")
    return replace(labelled, episodes=with_states(policy, labelled.episodes, captures, kept))


def _requests(name: str, options: Mapping[str, Any], episodes: int) -> list[EpisodeRequest]:
    def make() -> TextEnv:
        return build_world(name, options, "world")

    seeds = [derive("validate", name.partition("@")[0], number) for number in range(episodes)]
    return [
        EpisodeRequest(partial(make), seed, number, sampling_seed=number, options=dict(options))
        for number, seed in enumerate(seeds)
    ]
