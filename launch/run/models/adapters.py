"""The adapters of a run: of its learned players, of its arm, and the slots for past policies."""

from __future__ import annotations

from dataclasses import replace

from launch.config.arms.seats import PAST, SHARED
from launch.config.study import RunConfig
from shaping.arm import Arm
from shaping.hooks import AdapterSpec
from shaping.learning.apart import Apart
from shaping.learning.config import LearnerConfig
from shaping.learning.snapshots import Snapshots
from shaping.seated_arm import SeatedArm


def kept_adapter(learner: LearnerConfig) -> list[AdapterSpec]:
    """The adapter that is trained in place of the base weights, if the config asks for one."""
    lora = learner.lora
    return [AdapterSpec("kept", "kept", rank=lora.rank, alpha=lora.alpha, targets=lora.targets)] if lora else []


def adapters_of(run: RunConfig, arm: Arm) -> list[AdapterSpec]:
    """All adapters of a run: those that are trained in place of the weights, the arm's, and slots for past ones."""
    learned, snapshots = learned_adapters(run), snapshots_of(run)
    return [*learned, *arm.adapters(), *(snapshots.specs(learned) if snapshots else ())]


def learned_adapters(run: RunConfig) -> list[AdapterSpec]:
    """One adapter for every learned player; none where the base weights are trained."""
    kept = kept_adapter(run.learner)
    if run.seats is None or not run.seats.own_adapters:
        return kept
    players = dict.fromkeys(run.seats.learned.values())
    return [replace(spec, name=adapter_name(player), player=player) for spec in kept for player in players]


def adapter_name(player: str) -> str:
    """The adapter of a learned player."""
    return "kept" if player == SHARED else player


def snapshots_of(run: RunConfig) -> Snapshots | None:
    """Which past policies are kept; None where none is an opponent."""
    if run.seats is None or PAST not in run.seats.meets:
        return None
    return Snapshots(run.seats.snapshots.every, run.seats.snapshots.keep)


def apart_of(arm: Arm) -> Apart:
    """Player -> the interventions that are about it alone."""
    return arm.apart if isinstance(arm, SeatedArm) else {}
