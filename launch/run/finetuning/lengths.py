"""Whether the rows of all stages fit into the model and into a micro-batch, before anything is trained."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from transformers import AutoConfig

from envs.episode import Context, Contexts
from launch.config.plugins import build_arm, build_splitter
from launch.config.stages import PreferenceStage, SupervisedStage, learner_of, name_of
from launch.config.study import RunConfig
from launch.errors import ConfigError
from launch.run.finetuning.data import comes_later, pairs_of, rows_of
from launch.run.finetuning.stage_runs import arm_in
from launch.run.rendering import load_tokenizer, renderer_of
from shaping.finetuning.episodes import contexts_of, episode_of
from shaping.finetuning.rows import Row
from shaping.models.context import longest_context
from shaping.sampling.text.split import behind

DRAWS = 64
"""Prompts that are drawn to find the longest one."""


def check_lengths(starts: Iterable[tuple[RunConfig, Path]]) -> None:
    """Raise `ConfigError` for the first row of a run's stages that does not fit behind the longest of its prompts.

    Of runs that differ in their seeds alone the first is looked at. Each run looks at its own data once more. Rows that
    it writes itself are not there yet.
    """
    seen: set[str] = set()
    for run, model in starts:
        for stage in run.stages:
            if isinstance(stage, SupervisedStage | PreferenceStage) and not comes_later(run, stage):
                key = f"{stage!r} {run.learner!r} {run.arm_config!r} {run.rollout.splitter} {run.subject}"
                if key not in seen:
                    seen.add(key)
                    check_length(run, model, stage)


def check_length(run: RunConfig, model: Path, stage: SupervisedStage | PreferenceStage) -> None:
    """As `check_lengths`, for one stage."""
    renderer = renderer_of(run, load_tokenizer(model))
    split = behind(build_splitter(run.rollout.splitter), renderer.opened)
    arm = build_arm(run.arm, arm_in(stage, run.arm_config), run.isolation, run.learner.ratio)
    budget = learner_of(stage, run.learner).token_budget
    context = longest_context(AutoConfig.from_pretrained(model, local_files_only=True, trust_remote_code=False))
    rows = _rows(run, stage)
    drawn = [contexts_of(rows[0], arm, number=n, update=0, seed=run.seed, prose=run.prose) for n in range(DRAWS)]
    plain = len(renderer.open("", "x"))
    added = max(len(renderer.open(each.training.system, "x")) - plain for each in drawn)
    for number, row in enumerate(rows, 1):
        own = Contexts(Context(row.system), Context(row.system))
        episode = episode_of(row, own, renderer, split, group=0, arm="", version=0)
        if (length := len(episode.tokens) + added) > min(budget, context):
            raise ConfigError(
                f"stages.{name_of(stage)}: row {number} ({row.source}) has {length} tokens, {added} of them of the "
                f"arm's prompt, and at most {min(budget, context)} fit (learner.token_budget is {budget}, the model's "
                f"context {context}): raise the budget, or leave long rows out"
            )


def _rows(run: RunConfig, stage: SupervisedStage | PreferenceStage) -> list[Row]:
    if isinstance(stage, SupervisedStage):
        return rows_of(run, stage)
    return [row for pair in pairs_of(stage) for row in (pair.chosen, pair.rejected)]
