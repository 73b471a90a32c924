"""What is on while each player of a run samples."""

from __future__ import annotations

from collections.abc import Iterable

from launch.config.study import RunConfig
from launch.run.evaluation.eval_plan import EvalPolicy, active_adapters, active_edits
from shaping.arm import Arm
from shaping.hooks import AdapterSpec
from shaping.learning.snapshots import is_past
from shaping.sampling.players import PlayerMode
from shaping.seat_records import UNSHAPED


def adapters_on(run: RunConfig, specs: Iterable[AdapterSpec], policy: EvalPolicy) -> dict[str, tuple[str, ...]]:
    """Player -> names of the adapters that are on while it samples; empty where there is one player.

    `policy` says which of the learners' adapters are on.
    """
    every = list(specs)
    if run.seats is None or not every:
        return {}
    on = active_adapters(every, policy)
    found = {
        player: tuple(spec.name for spec in on if spec.player in (None, player))
        for player in run.seats.learned.values()
    }
    return {**found, UNSHAPED: (), **{spec.name: (spec.name,) for spec in every if is_past(spec)}}


def modes(run: RunConfig, specs: Iterable[AdapterSpec], arm: Arm, policy: EvalPolicy) -> dict[str, PlayerMode]:
    """Player -> what is on while it samples; empty where there is one player, so that nothing is ever switched.

    `policy` says which of the learners' adapters and edits are on. Opponents have no edits.
    """
    edits = tuple(active_edits(arm, policy))
    learners = set(run.seats.learned.values()) if run.seats else set()
    on = adapters_on(run, specs, policy)
    return {player: PlayerMode(names, edits if player in learners else ()) for player, names in on.items()}
