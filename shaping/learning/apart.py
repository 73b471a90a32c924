"""Players that are trained apart: each has adapters of its own, and its samples train these alone.

In an update the samples of one player after another make optimiser steps of their own: token counts, gradient norm and
AdamW's moments are those of the player, as if it were trained by itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from shaping.arm import captures_of
from shaping.hooks import ActivationEdit, Activations
from shaping.intervention import Intervention
from shaping.learning.config import LearnerConfig
from shaping.learning.losses.objective import Objective
from shaping.learning.policy import Policy
from shaping.learning.reference import Reference
from shaping.learning.samples.sample import Sample

Apart = Mapping[str, Sequence[Intervention]]
"""Player -> the interventions that are about it alone."""


def players_of(policy: Policy) -> list[str]:
    """Names of the players that have adapters of their own; the present one if none has."""
    named = [spec.player for spec in policy.adapters.specs.values() if spec.player is not None]
    return list(dict.fromkeys(named)) or [policy.player]


def by_player(samples: Sequence[Sample], policy: Policy) -> list[tuple[str, list[Sample]]]:
    """The samples of each player in their order. Where no player has adapters of its own, all are trained together."""
    players = players_of(policy)
    if len(players) == 1:
        return [(players[0], list(samples))]
    parts = [(player, [sample for sample in samples if sample.player == player]) for player in players]
    if sum(len(own) for _, own in parts) < len(samples):
        stray = next(sample.player for sample in samples if sample.player not in players)
        raise ValueError(f"a sample is of the player {stray!r}, who has no adapter: there are {', '.join(players)}")
    return [(player, own) for player, own in parts if own]


def objectives(
    policy: Policy,
    config: LearnerConfig,
    reference: Reference | None,
    interventions: Sequence[Intervention],
    edits: Sequence[ActivationEdit],
    apart: Apart,
) -> dict[str, Objective]:
    """Player -> its objective, without auxiliary losses and captures that are about another player alone.

    Raises: `InterventionError` if two interventions ask for different states under one name.
    """
    captures_of(interventions, "training")
    owner, found = owners(apart), {}
    for player in players_of(policy):
        own = [each for each in interventions if owner.get(id(each), player) == player]
        auxiliary = [each for each in own if type(each).auxiliary_loss is not Intervention.auxiliary_loss]
        found[player] = Objective(policy, config, reference, auxiliary, edits, captures_of(own, "training"))
    return found


def owners(apart: Apart) -> dict[int, str]:
    """`id` of an intervention that is about one player alone -> that player."""
    return {id(intervention): player for player, own in apart.items() for intervention in own}


def seen_together(found: Iterable[Mapping[str, Activations]]) -> dict[str, Activations]:
    """What the objectives of all players have captured, by name."""
    whole: dict[str, Activations] = {}
    for of_player in found:
        for name, own in of_player.items():
            known = whole.get(name)
            whole[name] = own if known is None else Activations(own.layers, {**known.turns, **own.turns})
    return whole
