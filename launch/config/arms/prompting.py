"""Which interventions of an arm may give it prompts, in all seats or in each."""

from __future__ import annotations

from collections.abc import Collection

from launch.config.arms.arms import ArmConfig, SeatInterventions
from launch.config.evaluation import may_have_context
from launch.config.fields import PluginSpec


def prompting(arm: ArmConfig, learned: Collection[str]) -> list[PluginSpec] | SeatInterventions:
    """The interventions of an arm that may give it prompts; where the `learned` seats differ in them, by seat.

    Empty for an arm without any.
    """
    common = list(filter(may_have_context, arm.interventions))
    own = arm.of_seats(learned) if arm.seats else {}
    by_seat = {seat: list(filter(may_have_context, interventions)) for seat, interventions in own.items()}
    return by_seat if any(interventions != common for interventions in by_seat.values()) else common
