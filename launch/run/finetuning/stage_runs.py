"""A stage as a run of its own: the learner, the interventions and the updates of the stage, and where it starts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from launch.config.stages import AnyStage as AnyStage
from launch.config.stages import RLStage, learner_of, train_of
from launch.config.study import ArmConfig, RunConfig, Within


@dataclass(frozen=True, slots=True)
class Start:
    """What a stage starts from."""

    model: Path
    """Directory of a whole model."""
    adapters: str = ""
    """Checkpoint whose adapters are trained on; empty: none."""


def stage_of(run: RunConfig) -> AnyStage | None:
    """The stage that a run is; None for a run without stages, which is one of reinforcement learning."""
    return run.within.run.stages[-1] if run.within else None


def stage_run(run: RunConfig, index: int, start: Start, first: Path, updates: int, rows: str = "") -> RunConfig:
    """Stage number `index` of a run as a run.

    Args:
        run: the run.
        index: of the stage.
        start: what the stage starts from.
        first: the model that the run starts from.
        updates: of a stage on rows.
        rows: file with the episodes that a policy of the run has written for the stage; empty: it has other data.
    """
    stage, last = run.stages[index], index == len(run.stages) - 1
    whole = run if last else run.model_copy(update={"stages": run.stages[: index + 1]})
    rollout = run.rollout if isinstance(stage, RLStage) else run.rollout.model_copy(update={"max_staleness": 0})
    base = run.eval.base and (index == 0 or stage.start == "model")
    return run.model_copy(
        update={
            "learner": learner_of(stage, run.learner),
            "train": train_of(stage, run.train, updates),
            "rollout": rollout,
            "arm_config": arm_in(stage, run.arm_config),
            "eval": run.eval.model_copy(update={"base": base}),
            "within": Within(run=whole, start=str(first), adapters=start.adapters, rows=rows),
        }
    )


def arm_in(stage: AnyStage, arm: ArmConfig) -> ArmConfig:
    """The arm with those of its interventions that the stage has."""
    if stage.interventions == "arm":
        return arm
    kept = [] if stage.interventions == "none" else [i for i in arm.interventions if i.use in stage.interventions]
    return arm.model_copy(update={"interventions": kept})
