"""Makes the parts of a run from its config: everything that the loop, the audits and the evaluation work with."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from launch.config.compatibility import check_rollout
from launch.config.plugins import build_arm, build_monitors, build_reward
from launch.config.study import RunConfig
from launch.distributed.needs import computes_itself
from launch.distributed.weights import PolicyWeights
from launch.isolation.standins import walls
from launch.run.captures import check_captures
from launch.run.device import local_device
from launch.run.evaluation.alarms import alarm_policy, trained_against
from launch.run.evaluation.eval_player import EvalPlayer, LocalEvalPlayer
from launch.run.evaluation.monitors import TrainingMonitors, check_held_out
from launch.run.models.adapters import apart_of, snapshots_of
from launch.run.models.load_policy import load_policy, prepare
from launch.run.models.trained import PolicyHere, TrainedPolicy
from launch.run.rendering import check_unbroken, load_tokenizer, notes, renderer_of
from launch.run.rng import seed_all
from launch.run.rollouts import LocalRollouts, Rollouts, RolloutScheduler
from launch.run.trainer import Learns, LearnsElsewhere, LearnsHere, Trainer
from launch.storage.resume import log_to_stderr
from shaping.arm import Arm
from shaping.learning.learner import Learner
from shaping.learning.policy import Policy
from shaping.monitors.base import Monitor
from shaping.sampling.text.render import Renderer


@dataclass(frozen=True, eq=False)
class Parts:
    """What a run is made of. `close` ends the processes that work for it."""

    trainer: Trainer
    """What the loop works with."""
    policy: Policy | None
    """The policy in this process; with a learner group it is given the trained weights after every update.

    None: rollout workers sample with it and learner ranks hold it, so that this process needs none of it.
    """
    trained: TrainedPolicy
    """The same policy, for audits and for saving it."""
    player: EvalPlayer
    """Plays evaluations and audits."""
    monitors: Sequence[Monitor]
    """All monitors of the config; they read the evaluation."""
    workers: contextlib.ExitStack
    """Rollout workers and learner ranks."""

    @property
    def arm(self) -> Arm:
        return self.trainer.arm

    @property
    def renderer(self) -> Renderer:
        return self.trainer.renderer

    @property
    def evaluates_on_workers(self) -> bool:
        """Does `player` need the workers?"""
        return self.trainer.run.rollout.workers > 0

    def end_workers(self) -> None:
        """End rollout workers and learner ranks, and free what they hold. No update may follow."""
        self.workers.close()

    def close(self) -> None:
        self.end_workers()


def build(run: RunConfig, model: Path, device: str | None = None) -> Parts:
    """Load the model and start the workers of a run. Seeds the global random generators of this process.

    `device`: the one that is reserved for this process; None: the config's, reserved by nobody.

    Raises `UserError` if the config asks for parts that do not go together.
    """
    monitors = build_monitors(run.eval)
    seed_all(run.seed)
    arm = build_arm(run.arm, run.arm_config, run.isolation, run.learner.ratio, run.seats)
    check_rollout(run, arm)
    check_captures(run, arm)
    reward = build_reward(run.arm, run.arm_config, run.isolation)
    check_held_out(monitors, [arm, reward, *trained_against(run.eval.alarms, monitors)])
    for line in walls([*arm.interventions, reward]):
        log_to_stderr(line)
    prepare(arm, model)  # once, before processes that load the policy look for the same files
    here = computes_itself(run)
    policy = load_policy(run, model, arm, device or local_device(run.train.device)) if here else None
    renderer = renderer_of(run, load_tokenizer(model) if policy is None else policy.tokenizer)
    check_unbroken(run, arm, renderer)
    for line in notes(run, renderer):
        log_to_stderr(line)
    with contextlib.ExitStack() as undo:
        learner = _learner(run, arm, policy, model, undo)
        rollouts = _rollouts(run, arm, policy, learner, renderer, model)
        undo.callback(rollouts.close)
        workers = undo.pop_all()
    trainer = Trainer(
        run=run,
        arm=arm,
        reward=reward,
        renderer=renderer,
        learner=learner,
        rollouts=rollouts,
        scheduler=RolloutScheduler(
            rollouts, run.train.groups, run.rollout.max_staleness, list(run.seats.learned) if run.seats else ()
        ),
        monitors=TrainingMonitors(monitors, limit=run.eval.monitor_timeout, policy=alarm_policy(run, monitors)),
    )
    player = _player(run, arm, policy, trainer)
    return Parts(trainer, policy, _trained(policy, arm, learner), player, monitors, workers)


def _learner(
    run: RunConfig, arm: Arm, policy: Policy | None, model: Path, workers: contextlib.ExitStack
) -> LearnsHere | LearnsElsewhere:
    """In this process, or a group of ranks."""
    if run.train.learner_group.strategy != "none":
        from launch.distributed.learner_group import LearnerGroup  # imports Ray, which other runs do not need

        group = LearnerGroup(run, model, policy, arm)
        workers.callback(group.close)
        return group
    assert policy is not None
    learner = Learner(
        policy,
        run.learner,
        interventions=arm.interventions,
        edits=lambda: arm.edits("training"),
        updates=run.train.updates,
        seed=run.seed,
        apart=apart_of(arm),
        snapshots=snapshots_of(run),
    )
    learner.refresh()
    return learner


def _rollouts(
    run: RunConfig,
    arm: Arm,
    policy: Policy | None,
    learner: LearnsHere | LearnsElsewhere,
    renderer: Renderer,
    model: Path,
) -> Rollouts:
    """In this process, or by Ray workers, which get the weights from `policy`, or from the learner without one."""
    if run.rollout.workers == 0:
        assert policy is not None
        return LocalRollouts(run, arm, policy, renderer)
    from launch.distributed.learner_group import LearnerGroup
    from launch.distributed.workers.rollouts import RayRollouts

    if policy is not None:
        return RayRollouts(run, arm, model, PolicyWeights(run, policy, model, log_to_stderr))
    assert isinstance(learner, LearnerGroup)
    return RayRollouts(run, arm, model, learner)


def _trained(policy: Policy | None, arm: Arm, learner: Learns) -> TrainedPolicy:
    if policy is not None:
        return PolicyHere(policy, arm)
    from launch.distributed.learner_group import LearnerGroup

    assert isinstance(learner, LearnerGroup)
    return learner


def _player(run: RunConfig, arm: Arm, policy: Policy | None, trainer: Trainer) -> EvalPlayer:
    """Evaluations are played where training episodes are."""
    if run.rollout.workers == 0:
        assert policy is not None
        return LocalEvalPlayer(run, policy, trainer.renderer, arm)
    from launch.distributed.workers.evaluation import WorkerEvalPlayer
    from launch.distributed.workers.rollouts import RayRollouts

    assert isinstance(trainer.rollouts, RayRollouts)
    return WorkerEvalPlayer(run, arm, trainer.rollouts, lambda: trainer.learner.version)
