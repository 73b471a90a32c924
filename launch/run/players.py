"""What is on while each player of a run samples."""

from __future__ import annotations

from collections.abc import Iterable

from launch.config.study import RunConfig
from launch.run.eval_plan import EvalPolicy, active_adapters, active_edits
from shaping.arm import Arm
from shaping.hooks import AdapterSpec
from shaping.learning.snapshots import PREFIX
from shaping.sampling.players import PlayerMode
from shaping.seat_records import UNSHAPED


def modes(run: RunConfig, specs: Iterable[AdapterSpec], arm: Arm, policy: EvalPolicy) -> dict[str, PlayerMode]:
    """Player -> what is on while it samples; empty where there is one player, so that nothing is ever switched.

    `policy` says which of the learners' adapters and edits are on. Opponents have no edits.
    """
    every = list(specs)
    if run.seats is None or not every:
        return {}
    on, edits = active_adapters(every, policy), tuple(active_edits(arm, policy))
    found = {
        player: PlayerMode(tuple(spec.name for spec in on if spec.player in (None, player)), edits)
        for player in run.seats.learned.values()
    }
    past = {spec.name: PlayerMode((spec.name,)) for spec in every if spec.name.startswith(f"{PREFIX}_")}
    return {**found, UNSHAPED: PlayerMode(), **past}
