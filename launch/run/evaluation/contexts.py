"""The system prompts of the trigger grid: what a run's policy is tried on after its training.

An arm that trains under prompts is tried on its own grid, and its reference on the grid of every such arm. Where the
arms' prompts differ, the reference is tried on each, and the context's name has the arm in brackets. All draws depend
on the seed of the run and the number of the episode alone, so that arms with the same prompts meet them in the same
episodes. Where seats of an arm have prompts of their own, the episodes take turns at the prompts of the seats.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from envs.episode import Context
from launch.config.arms.arms import SeatInterventions
from launch.config.fields import PluginSpec
from launch.config.plugins import build_arm
from launch.config.study import ArmConfig, RunConfig
from launch.errors import ConfigError
from launch.run.seeds import derive
from shaping.arm import Arm
from shaping.audits.conduct.cells import NONE, of_arm
from shaping.hooks import GroupInfo, Knob
from shaping.intervention import Intervention
from shaping.prompts.grid import DERIVED, Derived, EvalContext, derived
from shaping.prompts.pools import choose, language_of

ORIGINAL: EvalContext = "original"
PATIENCE = 64
"""Draws of an arm until one holds a prompt. Of an arm that gives one to a tenth of its groups, 1 in 1000 have none."""

Drawn = Mapping[str, tuple[Context, ...]]
"""World -> the prompt of each of its episodes."""


def prompts(run: RunConfig, worlds: Iterable[str], episodes: int) -> dict[str, Drawn]:
    """Context (all but `none`) -> its prompts. Empty where the run has no grid: its arm trains under no prompt.

    Raises `ConfigError` for a reference that is compared with no arm that has a prompt.
    """
    if not run.eval.contexts:
        return {}
    arms: dict[str, list[list[PluginSpec]]] = {"": _own(run)}
    arms |= {arm: _distinct(found) for arm, found in run.context_arms.items()}
    grids = {name: _grid_of(run, name, seats, list(worlds), episodes) for name, seats in arms.items()}
    grids = {name: grid for name, grid in grids.items() if grid}
    if run.arm_config.role == "reference" and not grids:
        raise ConfigError(
            "eval.contexts: no arm of this study samples or trains under a system prompt, so there is nothing to try "
            "out: leave eval.contexts out, or add an arm with one (Inoculation, Recontextualization)"
        )
    return _labelled(run.eval.contexts, grids)


def own_prompts(run: RunConfig, worlds: Iterable[str], episodes: int) -> Drawn:
    """World -> the prompts of the run's own arm, for a policy that is evaluated under them (`eval.prompted`).

    Raises `ConfigError` for an arm without any.
    """
    worlds = list(worlds)
    arms = _prompted(run, "", _own(run), worlds, episodes)
    if not arms:
        raise ConfigError(f"eval.prompted: the arm {run.arm!r} samples and trains under no prompt; leave it out there")
    return _originals(run, arms, worlds, episodes)


def _own(run: RunConfig) -> list[list[PluginSpec]]:
    """The interventions of the run's own arm, once for all seats that have the same ones."""
    config = run.arm_config
    return _distinct(config.of_seats(run.seats.learned) if run.seats and config.seats else config.interventions)


def _distinct(found: list[PluginSpec] | SeatInterventions) -> list[list[PluginSpec]]:
    every = list(found.values()) if isinstance(found, dict) else [found]
    return [interventions for number, interventions in enumerate(every) if interventions not in every[:number]]


def _labelled(contexts: Sequence[EvalContext], grids: Mapping[str, Mapping[str, Drawn]]) -> dict[str, Drawn]:
    """The contexts of all grids. One in which all agree, or that is the run's own, goes by its name alone."""
    found: dict[str, Drawn] = {}
    for context in contexts if grids else ():
        if context == NONE:
            continue
        own = {arm: grid[context] for arm, grid in grids.items()}
        first = next(iter(own.values()))
        plain = own.get("", first if all(drawn == first for drawn in own.values()) else None)
        if plain is not None:
            found[context] = plain
        found |= {of_arm(context, arm): drawn for arm, drawn in own.items() if drawn != plain}
    return found


def _grid_of(
    run: RunConfig, name: str, seats: Sequence[Sequence[PluginSpec]], worlds: Sequence[str], episodes: int
) -> dict[str, Drawn]:
    """Context -> prompts of one arm; empty for an arm without any."""
    arms = _prompted(run, name, seats, worlds, episodes)
    if not arms:
        return {}
    found: dict[str, Drawn] = {ORIGINAL: _originals(run, arms, worlds, episodes)}
    texts = {world: [_texts(arm, language_of(world, run.prose)) for arm in arms] for world in worlds}
    for context in DERIVED:
        found[context] = {
            world: tuple(_choice(run, own[n % len(arms)][context], context, n) for n in range(episodes))
            for world, own in texts.items()
        }
    return found


def _prompted(
    run: RunConfig, name: str, seats: Sequence[Sequence[PluginSpec]], worlds: Sequence[str], episodes: int
) -> list[Arm]:
    """An arm for each of the lists of interventions under which there is a prompt."""
    found = []
    for interventions in seats:
        config = ArmConfig(role=run.arm_config.role, interventions=list(interventions))
        # a fresh one: draws of a trained arm may be others
        arm = build_arm(name or run.arm, config, run.isolation, run.learner.ratio)
        drawn = (_original(run, arm, world, number) for world in worlds for number in range(episodes))
        if _owners(arm) and any(context.system for context in drawn):
            found.append(arm)
    return found


def _originals(run: RunConfig, arms: Sequence[Arm], worlds: Sequence[str], episodes: int) -> Drawn:
    return {world: tuple(_original(run, arms[n % len(arms)], world, n) for n in range(episodes)) for world in worlds}


def _owners(arm: Arm) -> list[Intervention]:
    return [arm.owner[knob] for knob in (Knob.TRAINING_CONTEXT, Knob.SAMPLING_CONTEXT) if knob in arm.owner]


def _texts(arm: Arm, language: str) -> Mapping[Derived, Sequence[str]]:
    """The prompts of each context but none and original: an arm's own, or the bundled ones."""
    for owner in _owners(arm):
        own = owner.grid_in(language) if hasattr(owner, "grid_in") else getattr(owner, "grid", None)
        if own:
            return {**derived(language), **own}
    return derived(language)


def _original(run: RunConfig, arm: Arm, world: str, number: int) -> Context:
    """The prompt that the arm trains under (c_t), or if that is empty samples under (c_s); one of many draws.

    That of the last update, or of the first if the last ones have none.
    """
    seed = derive(run.seed, "context", number)
    for update in dict.fromkeys((max(run.train.updates - 1, 0), 0)):
        info = GroupInfo(world=world, seed=seed, group=number, update=update, prose=run.prose)
        for attempt in range(PATIENCE):
            sampling, training = arm.contexts(info, np.random.default_rng([run.seed, 2, number, attempt]))
            if training.system or sampling.system:
                return training if training.system else sampling
    return Context()


def _choice(run: RunConfig, texts: Sequence[str], context: str, number: int) -> Context:
    return choose(texts, context, np.random.default_rng([run.seed, 3, number]))
