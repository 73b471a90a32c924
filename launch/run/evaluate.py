"""Deployment evaluation: the policy without masks, edits and quarantine adapters; prompts only in the trigger grid."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from envs.calls import call
from envs.episode import Context, Contexts, Episode
from launch.config.plugins import build_splitter
from launch.config.study import RunConfig
from launch.run.conditions import EvalCell, eval_cells
from launch.run.device import local_device
from launch.run.episodes import DEPLOYED, episode_request, limits
from launch.run.load_policy import load_trained
from launch.run.losses import check_played
from launch.run.rendering import renderer_of
from launch.run.slots import eval_slots
from launch.storage import jsonl
from launch.storage.files import disk_errors
from launch.storage.rundir import RunDirectory
from shaping.arm import Arm
from shaping.audits import condition_row
from shaping.audits.cells import WITH_QUARANTINE
from shaping.audits.played import CELLS, EvalCondition
from shaping.audits.summary import summarise
from shaping.hooks import InterventionError
from shaping.learning.policy import Policy
from shaping.sampling.play import EpisodeRequest, play
from shaping.sampling.render import Renderer
from shaping.sampling.transformers_engine import TransformersEngine

START = "base"
"""Value of `phase` in the rows of eval.jsonl that measure the model before training."""


def evaluate(
    run: RunConfig, policy_dir: Path, directory: RunDirectory, device: str = "auto"
) -> dict[EvalCondition, list[Episode]]:
    """Evaluate a saved policy again: writes eval.jsonl and episodes/eval.parquet. Keeps the rows before training.

    `device`: `auto` is a GPU where there is one. Raises `ConfigError` for one that torch cannot use here.
    """
    policy = load_trained(run, policy_dir, local_device(device, "--device"))
    policy.model.eval()
    conditions = deployment(run, policy, renderer_of(run, policy.tokenizer))
    directory.evaluation([*_rows_of_start(directory), *rows(conditions)])
    directory.episodes("eval", [e for condition in conditions.values() for e in condition])
    return conditions


def rows(conditions: Mapping[EvalCondition, Sequence[Episode]]) -> list[dict[str, Any]]:
    """One line of eval.jsonl per condition."""
    return [
        condition_row(episodes, world=c.world, watch=c.watch, placebo=c.placebo, cells=c.cells)
        for c, episodes in conditions.items()
    ]


def before_training(run: RunConfig, model: Path, device: str) -> list[dict[str, Any]]:
    """Rows of the model before training, with the conditions, seeds and sampling noise of the evaluation.

    Empty unless `eval.base` asks for it and the arm is the reference: all arms of a seed start from this model.
    """
    if not run.eval.base or run.arm_config.role != "reference":
        return []
    policy = Policy.load(
        model,
        dtype=getattr(torch, run.learner.dtype),
        temperature=run.train.temperature,
        device=device,
    )
    policy.model.eval()
    conditions = deployment(run, policy, renderer_of(run, policy.tokenizer), contexts=False)
    return [{"phase": START, **row} for row in rows(conditions)]


def _rows_of_start(directory: RunDirectory) -> list[dict[str, Any]]:
    """The rows of eval.jsonl for the model before training. A run that is evaluated again has that model no longer."""
    return [row for row in jsonl.whole(directory.path / "eval.jsonl").rows if row.get("phase") == START]


def evaluate_with_quarantine(
    run: RunConfig, policy: Policy, renderer: Renderer, directory: RunDirectory
) -> dict[str, float]:
    """The policy with its quarantine adapters still on, which are also saved. Empty if it has none."""
    quarantine = policy.adapters.names("quarantine")
    if not quarantine:
        return {}
    policy.model.eval()
    with policy.phase("sampling"):
        conditions = deployment(run, policy, renderer, contexts=False)
    for name in quarantine:
        with disk_errors(directory.path):
            policy.adapters.save(name, directory.weights("quarantine", name), policy.base)
    return {f"{WITH_QUARANTINE}{metric}": value for metric, value in summarise([], conditions, {}).items()}


def deploy(arm: Arm, policy: Policy, engine: TransformersEngine) -> None:
    """Drop edits and quarantine adapters, and let every intervention undo what it left on the policy."""
    engine.set_edits(())
    for intervention in arm.interventions:
        call(InterventionError, intervention, "deploy", policy)
    policy.deploy()
    policy.model.eval()


def deployment(
    run: RunConfig, policy: Policy, renderer: Renderer, *, contexts: bool = True
) -> dict[EvalCondition, list[Episode]]:
    """Episodes per condition of the evaluation, without masks and costs, and outside the trigger grid without contexts.

    All conditions of a world, in all languages and eras, have the same seeds and sampling noise, so that flipping a
    cue, an option or a prompt gives pairs. `contexts=False` leaves the trigger grid out. Raises `RunError` if all
    episodes of a condition failed.
    """
    slots = eval_slots(run, policy.model)
    engine = TransformersEngine(policy.model, renderer, slots=slots)
    cells = eval_cells(run, contexts=contexts)
    episodes = asyncio.run(
        play(
            [_request(run, cell, number) for cell in cells for number in range(cell.episodes)],
            engine,
            renderer,
            DEPLOYED,
            limits=limits(run),
            concurrency=slots,
            splitter=build_splitter(run.rollout.splitter),
            env_threads=run.rollout.env_threads,
        )
    )
    conditions: dict[EvalCondition, list[Episode]] = {}
    played = iter(episodes)
    for cell in cells:
        own = list(islice(played, cell.episodes))
        named = next((e.world for e in own if e.world != cell.world), cell.world)  # one that failed has no other
        condition = EvalCondition(named, cell.watch, cell.placebo, cell.cells)
        conditions.setdefault(condition, []).extend(replace(e, world=named) for e in own)
    check_played(conditions)
    return conditions


def _request(run: RunConfig, cell: EvalCell, number: int) -> EpisodeRequest:
    """One episode, whose options say in which cells it counts: stored episodes can be told apart by them."""
    context = cell.contexts[number] if cell.contexts else Context()
    request = episode_request(run, cell.world, dict(cell.options), "eval", number, contexts=Contexts(context, context))
    return replace(request, options={**request.options, CELLS: list(cell.cells)})
