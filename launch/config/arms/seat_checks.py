"""What the seats of a run, its worlds, its learner and its sampler must agree on."""

from __future__ import annotations

import contextlib
from typing import Any

from envs.core import TextEnv
from envs.seated import SeatedWorld
from launch.config.arms.seats import PAST, SeatsConfig
from launch.config.plugins import build_world
from launch.config.study import RunConfig
from launch.errors import ConfigError, nearest
from shaping.arm import Arm
from shaping.hooks import Knob
from shaping.intervention import Intervention
from shaping.seated_arm import SeatedArm


def check_seats(run: RunConfig, arm: Arm) -> None:
    """Raise `ConfigError` if the seats of a run cannot be played or learned from. Nothing to do without seats."""
    seats = run.seats
    if seats is None or not isinstance(arm, SeatedArm):
        return
    _check_adapters(run, seats)
    _check_learner(run, arm, seats)
    _check_sampler(run, arm, seats)
    _check_past(arm, seats)
    _check_lookers(run, arm, seats)
    _check_roles(arm, seats)
    for name, options in run.train.worlds.items():
        _check_world(name, options, seats)


def _check_adapters(run: RunConfig, seats: SeatsConfig) -> None:
    if run.learner.lora is not None:
        return
    if seats.own_adapters:
        seat = next(name for name, player in seats.learned.items() if player)
        raise ConfigError(
            f"seats.players.{seat}.adapter: seats have adapters of their own only where adapters are trained: set "
            "learner.lora"
        )
    if seats.meets:
        raise ConfigError(
            f"seats.players: {' and '.join(sorted(seats.meets))} policies are adapters on the model that the run "
            "starts from, which is itself trained here: set learner.lora"
        )


def _check_learner(run: RunConfig, arm: SeatedArm, seats: SeatsConfig) -> None:
    if run.train.refill:
        raise ConfigError(
            f"train.refill is {run.train.refill}, but the groups of a game's seats belong together, so that none can "
            "be replaced alone: set it to 0"
        )
    if run.learner.algorithm != "ppo":
        return
    if seats.own_adapters:
        raise ConfigError(
            "learner.algorithm is ppo, whose critic reads one policy, but seats have adapters of their own: use an "
            "algorithm without a critic (grpo, rloo), or leave seats.players.*.adapter out"
        )
    if any(len(arm.of(seat).constraints) < len(arm.constraints) for seat in seats.learned):
        raise ConfigError(
            f"learner.algorithm is ppo, whose critic has one value per constraint, but arms.{run.arm}.seats gives a "
            "seat constraints of its own: put them under interventions, or use an algorithm without a critic"
        )


def _check_sampler(run: RunConfig, arm: SeatedArm, seats: SeatsConfig) -> None:
    rollout = run.rollout
    if rollout.slots is not None and rollout.slots < len(seats.players):
        raise ConfigError(
            f"rollout.slots is {rollout.slots}, but the {len(seats.players)} seats of a game are open at once: raise it"
        )
    if rollout.engine != "vllm" or run.learner.lora is None:
        return
    if rollout.sync != "lora":
        raise ConfigError(
            f"rollout.sync is {rollout.sync}, which merges one policy into vLLM's weights, but seats are played by "
            "several: set it to lora"
        )
    if arm.edits("sampling"):
        raise ConfigError(
            f"arm {arm.name!r} edits activations while it samples, which vLLM does for all requests, those of "
            "opponents included: use rollout.engine=transformers"
        )


def _check_past(arm: SeatedArm, seats: SeatsConfig) -> None:
    """Past policies are copies of the run's own adapters, which are not all that an arm with others has learned in."""
    if PAST in seats.meets and (own := [spec.name for spec in arm.adapters() if spec.role == "kept"]):
        raise ConfigError(
            f"seats.players: past policies are copies of the adapter of learner.lora, but arm {arm.name!r} learns in "
            f"{', '.join(map(repr, own))}, too, and they would be without: leave past out of the opponents"
        )


def _check_lookers(run: RunConfig, arm: SeatedArm, seats: SeatsConfig) -> None:
    """Interventions of all seats that need the one policy of an update, where seats have several."""
    if len({*seats.learned.values()}) == 1:
        return
    for intervention in arm.common:
        kind = type(intervention)
        for hook, what in (("refresh", "looks at the policy between updates"), ("rehearse", "rehearses episodes")):
            if getattr(kind, hook) is not getattr(Intervention, hook):
                raise ConfigError(
                    f"arms.{run.arm}.interventions: {kind.__name__} {what}, and seats.players gives the seats several "
                    f"policies: put it under arms.{run.arm}.seats, or let all learned seats have one adapter"
                )


def _check_roles(arm: SeatedArm, seats: SeatsConfig) -> None:
    """A prompt that takes the place of a whole one would be without the seat's role."""
    for seat in seats.learned:
        for intervention in arm.of(seat).interventions if seats.players[seat].context else ():
            kind = type(intervention)
            rehearses = kind.rehearse is not Intervention.rehearse
            if kind.replaces_prompts or rehearses or Knob.EPISODE_CONTEXT in kind.owns:
                raise ConfigError(
                    f"seats.players.{seat}.context: {kind.__name__} of arm {arm.name!r} learns under prompts of its "
                    "own, in which the role would be missing: leave the context out, or the intervention"
                )


def _check_world(name: str, options: dict[str, Any], seats: SeatsConfig) -> None:
    where = f"train.worlds.{name}"
    with contextlib.closing(build_world(name, options, "train.worlds")) as world:
        _check_places(where, world, seats)


def _check_places(where: str, world: TextEnv, seats: SeatsConfig) -> None:
    if not isinstance(world, SeatedWorld):
        raise ConfigError(
            f"{where}: the world has a single seat, but the study has `seats`: train in worlds with several "
            "(subclasses of envs.seated.SeatedWorld), and put this one under eval.worlds"
        )
    for seat, player in seats.players.items():
        if seat not in world.seats:
            raise ConfigError(f"seats.players: {where} has no seat {seat!r}{nearest(seat, world.seats)}")
        for policy in player.scripted:
            try:
                world.check_policy(policy)
            except ValueError as error:
                raise ConfigError(f"seats.players.{seat}.opponents: {error}") from None
    if empty := [seat for seat in world.seats if seat not in seats.players]:
        raise ConfigError(
            f"seats.players: nobody sits on {empty[0]!r} of {where}: say that a learner does, or name opponents"
        )
