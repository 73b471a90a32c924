"""Deployment evaluation: the policy without masks, edits and quarantine adapters; prompts only in the trigger grid."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from envs.episode import Context, Contexts, Episode
from launch.config.plugins import build_monitors
from launch.config.study import RunConfig
from launch.run.device import local_device
from launch.run.evaluation.access import access_parts, reward_access
from launch.run.evaluation.alarms import alarm_policy
from launch.run.evaluation.conditions import EvalCell, eval_cells
from launch.run.evaluation.eval_plan import EvalEpisode, EvalPart, EvalPolicy, Played
from launch.run.evaluation.eval_player import EvalPlayer, LocalEvalPlayer
from launch.run.evaluation.losses import check_played
from launch.run.evaluation.monitors import read_evaluation
from launch.run.models.adapters import learned_adapters
from launch.run.models.load_policy import load_trained
from launch.run.models.trained import TrainedPolicy, undoes
from launch.run.rendering import renderer_of
from launch.run.seats.games import eval_games
from launch.storage import jsonl
from launch.storage.rundir import RunDirectory
from shaping.arm import Arm
from shaping.audits import condition_row
from shaping.audits.played import OWN, EvalCondition, cells_of, sound
from shaping.audits.summary import summarise
from shaping.audits.training.attached import (
    AS_SAMPLED,
    FROZEN_ALONE,
    QUARANTINE_ALONE,
    WITH_QUARANTINE,
    attached_metrics,
)
from shaping.learning.policy import Policy
from shaping.organisms.gates.competence import columns
from shaping.sampling.text.render import Renderer

START = "base"
"""Value of `phase` in the rows of eval.jsonl that measure the model before training."""
Conditions = dict[EvalCondition, list[Episode]]
"""Episodes per condition of the evaluation."""


def evaluate(run: RunConfig, policy_dir: Path, directory: RunDirectory, device: str = "auto") -> Conditions:
    """Evaluate a saved policy again: writes eval.jsonl, episodes/eval.parquet and what monitors say of those.

    The rows before training stay.

    `device`: `auto` is a GPU where there is one. Raises `ConfigError` for one that torch cannot use here.
    """
    policy = load_trained(run, policy_dir, local_device(device, "--device"))
    conditions = deployment(run, policy, renderer_of(run, policy.tokenizer))
    episodes = [e for condition in conditions.values() for e in condition]
    monitors = build_monitors(run.eval)
    own, policy_of_alarms = [e for e in episodes if OWN in cells_of(e)], alarm_policy(run, monitors)
    read = read_evaluation(monitors, own, run.eval.monitor_timeout, policy=policy_of_alarms)
    directory.evaluation([*_rows_of_start(directory), *rows(conditions)])
    directory.episodes("eval", episodes)
    if monitors:
        directory.records("eval", read.records)
    return conditions


def rows(conditions: Mapping[EvalCondition, Sequence[Episode]]) -> list[dict[str, Any]]:
    """One line of eval.jsonl per condition."""
    return [
        condition_row(episodes, world=c.world, watch=c.watch, placebo=c.placebo, cells=c.cells)
        for c, episodes in conditions.items()
    ]


def start_parts(run: RunConfig) -> list[EvalPart]:
    """The evaluation of the model before training; empty unless `eval.base` asks for it and the arm is the reference.

    All arms of a seed start from this model.
    """
    wanted = run.eval.base and run.arm_config.role == "reference"
    return [deployment_part(run, "base", contexts=False)] if wanted else []


def rows_of_start(run: RunConfig, played: Played) -> list[dict[str, Any]]:
    """Rows of the model before training, with the conditions, seeds and sampling noise of the evaluation.

    They say how competent it is (gate M7) in each of them.
    """
    found = []
    for episodes in played:
        conditions = conditions_of(run, episodes, contexts=False)
        able = [columns(sound(own)) for own in conditions.values()]
        found += [{"phase": START, **row, **own} for row, own in zip(rows(conditions), able, strict=True)]
    return found


def _rows_of_start(directory: RunDirectory) -> list[dict[str, Any]]:
    """The rows of eval.jsonl for the model before training. A run that is evaluated again has that model no longer."""
    return [row for row in jsonl.whole(directory.path / "eval.jsonl").rows if row.get("phase") == START]


@dataclass(frozen=True)
class Evaluated:
    """What the evaluation of a trained policy has found."""

    access: Mapping[str, float]
    """The reward-access audit; empty without one."""
    attached: Mapping[str, float]
    """Metrics with adapters that deployment drops (`shaping.audits.training.attached`); empty if it has none."""
    conditions: Conditions
    """The deployed policy."""
    games: list[Episode]
    """Games of the deployed policy against the unshaped one; empty in worlds with one seat."""


def evaluate_trained(run: RunConfig, arm: Arm, player: EvalPlayer, policy: TrainedPolicy) -> Evaluated:
    """Audit and evaluate the trained policy, as it samples and as it is deployed.

    All of it is one batch, unless adapters or edits differ, or an intervention changes the policy for deployment.
    Raises `RunError` if all episodes of a condition failed.
    """
    access = access_parts(run, arm)
    wanted = _attached(run, arm)
    before = [*access, *(deployment_part(run, who, contexts=False) for who in wanted.values())]
    games = eval_games(run)
    deployed = [*([EvalPart("deployed", games)] if games else []), deployment_part(run, "deployed")]
    if undoes(arm):
        played = player.play(before)
        policy.undo()
        played += player.play(deployed, fresh=True)
    else:
        played = player.play([*before, *deployed])
    conditions, attached = conditions_of(run, played[-1]), dict[str, float]()
    if wanted:
        own = zip(wanted, played[len(access) : len(before)], strict=True)
        found = {prefix: summarise([], conditions_of(run, each, contexts=False), {}) for prefix, each in own}
        attached = attached_metrics(found, summarise([], conditions, {}))
    reached = reward_access(run, played[: len(access)])
    return Evaluated(reached, attached, conditions, list(played[-2]) if games else [])


def _attached(run: RunConfig, arm: Arm) -> dict[str, EvalPolicy]:
    """Prefix of metrics -> policy with adapters that are dropped at deployment, of those that an arm has.

    Adapters of one role are alone only where the base stays as it was, which it does below kept ones.
    """
    specs = [*learned_adapters(run), *arm.adapters()]
    roles = {spec.role for spec in specs}
    found: dict[str, EvalPolicy] = {WITH_QUARANTINE: "quarantined"} if "quarantine" in roles else {}
    if "quarantine" in roles and "kept" in roles:
        found[QUARANTINE_ALONE] = "quarantine"
    if "frozen" in roles and "kept" in roles:
        found[FROZEN_ALONE] = "frozen"
    if any(spec.role == "kept" and "sampling" not in spec.phases for spec in specs):
        found[AS_SAMPLED] = "quarantined"
    return found


def deployment(run: RunConfig, policy: Policy, renderer: Renderer, *, contexts: bool = True) -> Conditions:
    """Evaluate a policy of this process as deployed. `contexts=False` leaves the trigger grid out."""
    (played,) = LocalEvalPlayer(run, policy, renderer).play([deployment_part(run, "deployed", contexts=contexts)])
    return conditions_of(run, played, contexts=contexts)


def deployment_part(run: RunConfig, policy: EvalPolicy, *, contexts: bool = True) -> EvalPart:
    """The episodes of the evaluation, without masks and costs, and outside the trigger grid without contexts.

    All conditions of a world, in all languages and eras, have the same seeds and sampling noise, so that flipping a
    cue, an option or a prompt gives pairs.
    """
    cells = eval_cells(run, contexts=contexts)
    return EvalPart(policy, tuple(_episode(cell, number) for cell in cells for number in range(cell.episodes)))


def conditions_of(run: RunConfig, episodes: Iterable[Episode], *, contexts: bool = True) -> Conditions:
    """The episodes of `deployment_part` per condition. Raises `RunError` if all episodes of a condition failed."""
    conditions: Conditions = {}
    played = iter(episodes)
    for cell in eval_cells(run, contexts=contexts):
        own = list(islice(played, cell.episodes))
        named = next((e.world for e in own if e.world != cell.world), cell.world)  # one that failed has no other
        condition = EvalCondition(named, cell.watch, cell.placebo, cell.cells)
        conditions.setdefault(condition, []).extend(replace(e, world=named) for e in own)
    check_played(conditions)
    return conditions


def _episode(cell: EvalCell, number: int) -> EvalEpisode:
    """One episode, whose options say in which cells it counts: stored episodes can be told apart by them."""
    context = cell.contexts[number] if cell.contexts else Context()
    return EvalEpisode("eval", cell.world, cell.options, number, Contexts(context, context), cell.cells)
