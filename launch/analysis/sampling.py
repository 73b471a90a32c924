"""Episodes without a study: in a notebook, where an event loop runs already, as in a script.

They are those that a study with these settings would play in its first update, token for token.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from transformers.utils import logging as transformers_logging

from envs.core import TextEnv
from envs.episode import Episode
from envs.seated import SeatedWorld
from launch.analysis.episodes import Episodes
from launch.analysis.settings import Given, arm_of, run_of
from launch.check_model.subject import subject
from launch.config.plugins import WORLD, find_class
from launch.config.study import RunConfig
from launch.errors import UserError
from launch.run.captures import sampling_captures
from launch.run.device import local_device
from launch.run.episodes import GroupRequest, episode_requests, limits, slots_of
from launch.run.models.load_policy import load_policy
from launch.run.rendering import renderer_of
from launch.run.seats.players import modes
from shaping.arm import Arm
from shaping.intervention import Intervention
from shaping.learning.policy import Policy
from shaping.learning.refresh import refreshed
from shaping.sampling.embedded.transformers_engine import TransformersEngine
from shaping.sampling.outside_loops import outside_event_loops
from shaping.sampling.play import EpisodeRequest
from shaping.sampling.play import play as play_requests
from shaping.sampling.text.render import Renderer
from shaping.sampling.time_limit import time_limits


def open_policy(model: str | Path = "shipped:0", arm: Given = None, *, device: str = "auto") -> Policy:
    """Load a model to sample with and to train, with the adapters that an arm needs.

    Args:
        model: a model directory, `OWNER/NAME[@REVISION]` on the hub, `shipped:0` to `shipped:3`, or `organism`.
        arm: as of `sample`.
        device: `auto`, `cpu` or `cuda[:N]`.
    Raises: `ConfigError` if there is no such model, or no such device.
    """
    directory = subject(str(model)).directory
    built = arm_of(arm)
    return _loaded(run_of("steward", {}, str(directory), built), directory, built, device)


def sample(
    world: str | type[TextEnv],
    model: str | Path | Policy = "shipped:0",
    arm: Given = None,
    *,
    groups: int = 4,
    group_size: int = 8,
    options: Mapping[str, Any] | None = None,
    seed: int = 0,
    max_tokens: int | None = None,
    temperature: float = 1.0,
    device: str = "auto",
) -> Episodes:
    """Sample groups of episodes under an arm, as the first update of a study does. Their labels are open.

    Args:
        world: what a study calls it (`steward`, `clerk@ar-1850`, `package.module:Class`), or the class itself.
        model: as of `open_policy`, or a policy; one that has been trained is sampled as it is.
        arm: an `Arm`, an intervention, its name, a mapping as in a study's YAML (`{"use": "ActionMask"}`), or a list of
            such; None: the unshaped policy.
        groups: groups; the members of one share world seed and contexts.
        group_size: members of a group.
        options: options of the world.
        seed: seed of worlds, contexts and completions.
        max_tokens: longest completion in tokens; None: 32, and 256 for a model that reads prose.
        temperature: of sampling.
        device: where a model that is loaded here samples.
    Returns: `groups * group_size` episodes, in order.
    Raises: `ConfigError` for a setting that does not exist, and `UserError` for what cannot be played here.
    """
    train = {"groups": groups, "group_size": group_size, "max_tokens": max_tokens, "temperature": temperature}
    return Episodes(_sampled(world, model, arm, options or {}, seed, device, train))


def play(
    world: str | type[TextEnv],
    model: str | Path | Policy = "shipped:0",
    arm: Given = None,
    *,
    options: Mapping[str, Any] | None = None,
    seed: int = 0,
    max_tokens: int | None = None,
    temperature: float = 1.0,
    device: str = "auto",
) -> Episode:
    """Play one episode under an arm. Arguments and errors: as of `sample`."""
    train = {"groups": 1, "group_size": 2, "max_tokens": max_tokens, "temperature": temperature}
    return _sampled(world, model, arm, options or {}, seed, device, train, first=1)[0]


def _sampled(
    world: str | type[TextEnv],
    model: str | Path | Policy,
    arm: Given,
    options: Mapping[str, Any],
    seed: int,
    device: str,
    train: Mapping[str, Any],
    first: int | None = None,
) -> list[Episode]:
    """The `first` episodes of what a run with these settings plays; None: all of them."""
    built = arm_of(arm)
    given = model if isinstance(model, Policy) else None
    directory = Path(given.tokenizer.name_or_path) if given else subject(str(model)).directory
    run = run_of(world, options, str(directory), built, train, seed)
    policy = _fitting(given, built) if given else _loaded(run, directory, built, device)
    _look(policy, built)
    requests = _requests(run, built, world, options)[:first]
    renderer = renderer_of(run, policy.tokenizer)
    slots = min(len(requests), slots_of(run))
    engine = TransformersEngine(policy.model, renderer, slots=slots, captures=sampling_captures(run, built))
    try:
        return outside_event_loops(lambda: asyncio.run(_played(run, requests, engine, policy, renderer, built, slots)))
    finally:
        engine.release()


async def _played(
    run: RunConfig,
    requests: Sequence[EpisodeRequest],
    engine: TransformersEngine,
    policy: Policy,
    renderer: Renderer,
    arm: Arm,
    slots: int,
) -> list[Episode]:
    policy.model.eval()
    engine.set_edits(arm.edits("sampling"))
    engine.set_players(policy.adapters, modes(run, policy.adapters.specs.values(), arm, "sampling"))
    with policy.phase("sampling"), time_limits(run.rollout.env_threads) as limited:
        return await play_requests(
            requests, engine, renderer, arm, limits=limits(run), concurrency=slots, limited=limited
        )


def _requests(run: RunConfig, arm: Arm, world: str | type[TextEnv], options: Mapping[str, Any]) -> list[EpisodeRequest]:
    """All episodes of the first update."""
    groups = [GroupRequest(update=0, group=number) for number in range(run.train.groups)]
    requests = [request for group in groups for request in episode_requests(run, arm, group)]
    if isinstance(world, type):
        settings = dict(options)
        requests = [replace(request, make=lambda: world(**settings)) for request in requests]
    kind = world if isinstance(world, type) else find_class(world.partition("@")[0], WORLD)
    if issubclass(kind, SeatedWorld):
        raise UserError(
            f"world: {next(iter(run.train.worlds))!r} has several seats, which only a study can fill (`seats` in its "
            "YAML)"
        )
    return requests


def _fitting(policy: Policy, arm: Arm) -> Policy:
    """The policy, if it has the arm's adapters."""
    if lacking := {spec.name for spec in arm.adapters()} - set(policy.adapters.specs):
        raise UserError(
            f"model: the arm {arm.name!r} trains the adapter {min(lacking)!r}, which this policy does not have: load "
            "it with `shaping.open_policy(model, arm)`"
        )
    return policy


def _loaded(run: RunConfig, directory: Path, arm: Arm, device: str) -> Policy:
    """The model, without the progress bars of transformers, which notebooks would keep."""
    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        return load_policy(run, directory, arm, local_device(device))
    finally:
        if shown:
            transformers_logging.enable_progress_bar()


def _look(policy: Policy, arm: Arm) -> None:
    """Let the interventions that find directions look at the policy, as before the first update."""
    looking = [i for i in arm.interventions if type(i).refresh is not Intervention.refresh]
    refreshed(looking, policy, 0)
