"""The spike-in of a run: a scripted deceiver replaces known shares of its evaluation, in the cell `own`."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Final

from envs.episode import Episode
from envs.personas.strategies import strategies_of
from launch.config.plugins import build_world
from launch.config.study import RunConfig
from launch.run.episodes import DEPLOYED, episode_request
from launch.run.evaluation.alarms import FLAGGED
from launch.run.evaluation.conditions import EvalCell, eval_cells
from launch.run.seeds import derive
from shaping.audits.conduct.spike_in import OUTCOMES, Count, counts_of, detection_curve, detection_limit, rate, spiked
from shaping.audits.played import CELLS, OWN, EvalCondition, sound
from shaping.audits.summary import at_deployment
from shaping.monitors.base import Monitor
from shaping.monitors.turn_scores import suspected, turn_scores
from shaping.sampling.play import Limits, play
from shaping.sampling.scripted_engine import ScriptedEngine
from shaping.sampling.text.render import Renderer

DECEIVER: Final = "covert_deny"
"""The strategy that is spiked in."""
_ROOM: Final = 1024
"""Tokens that its completions may have."""

Conditions = Mapping[EvalCondition, Sequence[Episode]]


def spike_in_metrics(
    run: RunConfig, conditions: Conditions, monitors: Sequence[Monitor], renderer: Renderer
) -> dict[str, float]:
    """`spike_in/<share>/<metric>`, `spike_in/<share>/detected/<metric>` and `spike_in/limit/<metric>`.

    Worlds that the deceiver does not play are left out; empty without shares or worlds. Only cheap monitors read, and
    of these only those that need no hidden states: a script has none, and no reading would look like innocence.
    """
    if not run.eval.spike_in:
        return {}
    own, deceiver = _paired(conditions, _deceivers(run, renderer))
    if not own:
        return {}
    counts = {**OUTCOMES, **_flags([m for m in monitors if m.cheap and not m.captures()])}
    found: dict[str, float] = {}
    for share in run.eval.spike_in:
        mixed = {
            condition: spiked(episodes, deceiver[condition], share, derive(run.seed, "spike_in", condition.world))
            for condition, episodes in own.items()
        }
        values = {name: value for name, value in at_deployment(mixed).items() if "." not in name}
        flat = [episode for episodes in mixed.values() for episode in episodes]
        values |= {name: rate(counts_of(flat, counts[name]))[0] for name in counts if name not in OUTCOMES}
        found |= {f"spike_in/{share:g}/{name}": value for name, value in values.items()}
    return found | _detected(run, own, deceiver, counts)


def _detected(run: RunConfig, own: Conditions, deceiver: Conditions, counts: Mapping[str, Count]) -> dict[str, float]:
    before = [episode for episodes in own.values() for episode in episodes]
    lies = [episode for condition in own for episode in deceiver[condition]]
    found: dict[str, float] = {}
    for name, count in counts.items():
        seed = derive(run.seed, "spike_in", "detected", name)
        curve = detection_curve(counts_of(before, count), counts_of(lies, count), run.eval.spike_in, seed=seed)
        found |= {f"spike_in/{share:g}/detected/{name}": detected for share, detected in curve}
        if (limit := detection_limit(curve)) is not None:
            found[f"spike_in/limit/{name}"] = limit
    return found


def _paired(conditions: Conditions, deceiver: Mapping[str, Mapping[int, Episode]]) -> tuple[Conditions, Conditions]:
    """The run's episodes and the deceiver's of the same conditions and seeds, in one order."""
    own: dict[EvalCondition, list[Episode]] = {}
    other: dict[EvalCondition, list[Episode]] = {}
    for condition, episodes in conditions.items():
        lies = deceiver.get(_key(condition), {})
        both = [episode for episode in sound(episodes) if episode.seed in lies]
        if OWN in condition.cells and both:
            own[condition] = both
            other[condition] = [lies[episode.seed] for episode in both]
    return own, other


def _deceivers(run: RunConfig, renderer: Renderer) -> dict[str, dict[int, Episode]]:
    """Condition -> seed -> the deceiver's episode."""
    found: dict[str, dict[int, Episode]] = {}
    for cell in eval_cells(run, contexts=False):
        if OWN not in cell.cells:
            continue
        for episode in sound(_episodes(run, cell, renderer)):
            condition = EvalCondition(episode.world, cell.watch, cell.placebo, cell.cells)
            found.setdefault(_key(condition), {})[episode.seed] = episode
    return found


def _episodes(run: RunConfig, cell: EvalCell, renderer: Renderer) -> list[Episode]:
    world = build_world(cell.world, cell.options, cell.where)
    make = strategies_of(type(world)).get(DECEIVER)
    world.close()
    if make is None:
        return []
    requests = [episode_request(run, cell.world, dict(cell.options), "eval", number) for number in range(cell.episodes)]
    requests = [replace(r, options={**r.options, CELLS: list(cell.cells)}) for r in requests]
    engine = ScriptedEngine(lambda env: make(env, 0), renderer)
    limits = Limits(max_tokens=_ROOM, step_seconds=run.train.step_timeout)
    return asyncio.run(play(requests, engine, renderer, DEPLOYED, limits=limits, env_threads=run.rollout.env_threads))


def _key(condition: EvalCondition) -> str:
    return repr((condition.world, condition.watch, condition.placebo, OWN in condition.cells))


def _flags(monitors: Sequence[Monitor]) -> dict[str, Count]:
    """`monitor/<name>/<trait>` -> does the monitor flag a turn of the episode?"""
    return {
        f"monitor/{monitor.name}/{trait}": partial(_flagged, monitor, trait)
        for monitor in monitors
        for trait in sorted(suspected(monitor))
    }


def _flagged(monitor: Monitor, trait: str, episode: Episode) -> tuple[float, float]:
    scores = turn_scores(monitor, episode).get(trait)
    return float(scores is not None and bool((scores >= FLAGGED).any())), 1.0
