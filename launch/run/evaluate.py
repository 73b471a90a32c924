"""Deployment evaluation: the policy without contexts, masks, edits and quarantine adapters."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from envs.calls import call
from envs.episode import Episode
from launch.config.study import RunConfig
from launch.run.conditions import eval_cells
from launch.run.episodes import DEPLOYED, SLOTS, episode_request, limits
from launch.run.losses import check_played
from launch.storage import jsonl
from launch.storage.files import disk_errors
from launch.storage.rundir import RunDirectory
from shaping.arm import Arm
from shaping.audits import condition_row
from shaping.audits.played import EvalCondition
from shaping.audits.summary import summarise
from shaping.hooks import InterventionError
from shaping.learning.policy import Policy
from shaping.sampling.play import play
from shaping.sampling.render import Renderer
from shaping.sampling.transformers_engine import TransformersEngine

START = "base"
"""Value of `phase` in the rows of eval.jsonl that measure the model before training."""


def evaluate(run: RunConfig, policy_dir: Path, directory: RunDirectory) -> dict[EvalCondition, list[Episode]]:
    """Evaluate a saved policy again: writes eval.jsonl and episodes/eval.parquet. Keeps the rows before training."""
    policy = Policy.load(policy_dir, dtype=getattr(torch, run.learner.dtype), temperature=run.train.temperature)
    policy.model.eval()
    conditions = deployment(run, policy, Renderer(policy.tokenizer))
    directory.evaluation([*_rows_of_start(directory), *rows(conditions)])
    directory.episodes("eval", [e for condition in conditions.values() for e in condition])
    return conditions


def rows(conditions: Mapping[EvalCondition, Sequence[Episode]]) -> list[dict[str, Any]]:
    """One line of eval.jsonl per condition."""
    return [condition_row(e, world=w, watch=c, placebo=p) for (w, c, p), e in conditions.items()]


def before_training(run: RunConfig, model: Path) -> list[dict[str, Any]]:
    """Rows of the model before training, with the conditions, seeds and sampling noise of the evaluation.

    Empty unless `eval.base` asks for it and the arm is the reference: all arms of a seed start from this model.
    """
    if not run.eval.base or run.arm_config.role != "reference":
        return []
    policy = Policy.load(
        model,
        dtype=getattr(torch, run.learner.dtype),
        temperature=run.train.temperature,
        device=run.train.device,
    )
    policy.model.eval()
    return [{"phase": START, **row} for row in rows(deployment(run, policy, Renderer(policy.tokenizer)))]


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
        conditions = deployment(run, policy, renderer)
    for name in quarantine:
        with disk_errors(directory.path):
            policy.adapters.save(name, directory.weights("quarantine", name))
    return {f"with_quarantine/{metric}": value for metric, value in summarise([], conditions, {}).items()}


def deploy(arm: Arm, policy: Policy, engine: TransformersEngine) -> None:
    """Drop edits and quarantine adapters, and let every intervention undo what it left on the policy."""
    engine.set_edits(())
    for intervention in arm.interventions:
        call(InterventionError, intervention, "deploy", policy)
    policy.deploy()
    policy.model.eval()


def deployment(run: RunConfig, policy: Policy, renderer: Renderer) -> dict[EvalCondition, list[Episode]]:
    """Episodes per (world, watch, placebo), without contexts, masks and costs.

    All conditions of a world, in all languages and eras, have the same seeds and sampling noise, so that flipping a cue
    gives pairs. Raises `RunError` if all episodes of a condition failed.
    """
    engine = TransformersEngine(policy.model, renderer, slots=SLOTS)
    cells = list(eval_cells(run))
    requests = [
        episode_request(run, cell.world, dict(cell.options), "eval", number)
        for cell in cells
        for number in range(run.eval.episodes)
    ]
    episodes = asyncio.run(
        play(
            requests,
            engine,
            renderer,
            DEPLOYED,
            limits=limits(run),
            concurrency=SLOTS,
            env_threads=run.rollout.env_threads,
        )
    )
    conditions: dict[EvalCondition, list[Episode]] = {}
    for number, cell in enumerate(cells):
        played = episodes[number * run.eval.episodes : (number + 1) * run.eval.episodes]
        named = next((e.world for e in played if e.world != cell.world), cell.world)  # one that failed has no other
        own = [replace(e, world=named) for e in played]
        conditions.setdefault((named, cell.watch, cell.placebo), []).extend(own)
    check_played(conditions)
    return conditions
