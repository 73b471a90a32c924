"""The episodes of a run: worlds, seeds, contexts and limits, as pure functions of its config."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from envs.episode import Contexts
from launch.config.plugins import build_world
from launch.config.study import RunConfig
from launch.run.seeds import derive
from shaping.arm import Arm
from shaping.hooks import GroupInfo, Prefill
from shaping.sampling.play import EpisodeRequest, Limits
from shaping.sampling.truncation import Truncation

DEPLOYED = Arm("deployed")
SLOTS = 64


def episode_request(
    run: RunConfig,
    world: str,
    options: dict[str, object],
    use: str,
    number: int,
    *,
    contexts: Contexts = Contexts(),  # noqa: B008
    member: int = 0,
    group: int = 0,
) -> EpisodeRequest:
    story = world.partition("@")[0]  # all languages and eras of a world meet the same episodes
    return EpisodeRequest(
        make=lambda: build_world(world, options, f"{use}.worlds"),
        seed=derive(run.seed, use, story, number),
        group=group,
        contexts=contexts,
        sampling_seed=derive(run.seed, use, "sample", story, number, member),
        options=dict(options),
        world=world,
    )


def limits(run: RunConfig) -> Limits:
    """Limits of one episode, in training and in evaluation alike. One that fits into no micro-batch ends before."""
    return Limits(
        max_tokens=run.max_tokens,
        context=run.learner.token_budget,
        step_seconds=run.train.step_timeout,
        temperature=run.train.temperature,
        truncation=Truncation(run.rollout.top_k or 0, run.rollout.top_p, run.rollout.min_p),
    )


@dataclass(frozen=True, slots=True, order=True)
class GroupRequest:
    """One group to play: number `group` of `update`. With the run's config it determines the episodes."""

    update: int
    group: int


@dataclass(frozen=True, slots=True)
class GroupDraw:
    """What an arm has drawn for a group before it is played."""

    contexts: Contexts = Contexts()
    """The one draw of c_s and c_t that all members share."""
    prefills: tuple[Prefill | None, ...] = ()
    """What opens the completions of each member; empty: nothing does."""


def draw(run: RunConfig, arm: Arm, request: GroupRequest, *part: int) -> GroupDraw:
    """The draws of a group, or of one `part` of it that has draws of its own."""
    world, _, seed = place(run, request)
    info = GroupInfo(world=world, seed=seed, group=request.group, update=request.update, prose=run.prose)
    key = [run.seed, request.update, request.group]
    contexts = Contexts(*arm.contexts(info, np.random.default_rng([*key, *part])))
    return GroupDraw(contexts, arm.prefills(info, run.train.group_size, np.random.default_rng([*key, 1, *part])))


def episode_requests(
    run: RunConfig, arm: Arm, request: GroupRequest, drawn: GroupDraw | None = None
) -> list[EpisodeRequest]:
    """The episodes of one group: a pure function of run and request, so that a lost group can be played again.

    Draws of an arm may depend on state that it keeps. A worker that plays a group for it is therefore given `drawn`.
    """
    name, options, seed = place(run, request)
    drawn = draw(run, arm, request) if drawn is None else drawn
    prefills = drawn.prefills or (None,) * run.train.group_size
    return [
        EpisodeRequest(
            make=lambda: build_world(name, options, "train.worlds"),
            seed=seed,
            group=request.group,
            contexts=drawn.contexts,
            prefill=prefills[member],
            sampling_seed=derive(run.seed, "sample", request.update, request.group, member),
            options=options,
            world=name,
        )
        for member in range(run.train.group_size)
    ]


def place(run: RunConfig, request: GroupRequest) -> tuple[str, dict[str, Any], int]:
    """(world, its options, seed) of a group."""
    worlds = list(run.train.worlds.items())
    name, options = worlds[(request.update * run.train.groups + request.group) % len(worlds)]
    return name, options, derive(run.seed, "train", request.update, request.group)


def describe_group(run: RunConfig, request: GroupRequest) -> str:
    name, _, seed = place(run, request)
    return f"group {request.group} of update {request.update} (world {name!r}, seed {seed})"


def policies_of(run: RunConfig) -> int:
    """Episodes of one game that policies may play at the same time."""
    if run.seats is None:
        return 1
    return sum(seat.learns > 0 or len(seat.scripted) < len(seat.opponents) for seat in run.seats.players.values())


def group_slots(run: RunConfig) -> int:
    """Number of episodes that are open at once while a whole group is played."""
    return run.train.group_size * policies_of(run)


def slots_of(run: RunConfig) -> int:
    """Number of episodes that one sampler keeps open at once; with `batching=group`, a multiple of `group_slots`."""
    rollout, size = run.rollout, group_slots(run)
    total = run.train.groups * (1 + rollout.max_staleness)
    share = -(-total // max(rollout.workers, 1)) * size
    slots = rollout.slots or min(share, max(SLOTS, size if rollout.batching == "group" else 0))
    return slots // size * size if rollout.batching == "group" else slots
