"""Which episodes a run plays: worlds, seeds, contexts and limits, as pure functions of its config."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from envs.episode import Contexts
from launch.config.plugins import build_world
from launch.config.study import RunConfig
from launch.run.seeds import derive
from shaping.arm import Arm
from shaping.hooks import GroupInfo
from shaping.sampling.play import EpisodeRequest, Limits

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
    )


def slots(run: RunConfig) -> int:
    """Episodes that an engine for training keeps open at once."""
    return min(SLOTS, run.train.groups * run.train.group_size)


def limits(run: RunConfig) -> Limits:
    """Limits of one episode, in training and in evaluation alike."""
    return Limits(
        max_tokens=run.train.max_tokens, step_seconds=run.train.step_timeout, temperature=run.train.temperature
    )


@dataclass(frozen=True, slots=True, order=True)
class GroupRequest:
    """One group to play: number `group` of those that `update` asks for. With the run's config it says everything."""

    update: int
    group: int


def draw(run: RunConfig, arm: Arm, work: GroupRequest) -> Contexts:
    """The one draw of c_s and c_t that all members of a group share."""
    world, _, seed = _place(run, work)
    info = GroupInfo(world=world, seed=seed, group=work.group, update=work.update)
    return Contexts(*arm.contexts(info, np.random.default_rng([run.seed, work.update, work.group])))


def episode_requests(
    run: RunConfig, arm: Arm, work: GroupRequest, drawn: Contexts | None = None
) -> list[EpisodeRequest]:
    """The episodes of one group: a pure function of the run and the work, so that a lost group can be played again.

    Arms may keep state that their draws depend on: whoever plays a group for them hands over what was `drawn`.
    """
    name, options, seed = _place(run, work)
    contexts = draw(run, arm, work) if drawn is None else drawn
    return [
        EpisodeRequest(
            make=lambda: build_world(name, options, "train.worlds"),
            seed=seed,
            group=work.group,
            contexts=contexts,
            sampling_seed=derive(run.seed, "sample", work.update, work.group, member),
            options=options,
        )
        for member in range(run.train.group_size)
    ]


def _place(run: RunConfig, work: GroupRequest) -> tuple[str, dict[str, Any], int]:
    """World, its options, and seed of a group."""
    worlds = list(run.train.worlds.items())
    name, options = worlds[(work.update * run.train.groups + work.group) % len(worlds)]
    return name, options, derive(run.seed, "train", work.update, work.group)


def describe_group(run: RunConfig, work: GroupRequest) -> str:
    name, _, seed = _place(run, work)
    return f"group {work.group} of update {work.update} (world {name!r}, seed {seed})"


def slots_of(run: RunConfig) -> int:
    """Episodes that one sampler of a run keeps open at once: of whole groups, where those share no batches."""
    rollout, size = run.rollout, run.train.group_size
    total = run.train.groups * (1 + rollout.max_staleness)
    share = -(-total // max(rollout.workers, 1)) * size
    slots = rollout.slots or min(share, max(SLOTS, size if rollout.batching == "group" else 0))
    return slots // size * size if rollout.batching == "group" else slots
