"""How personas play the steward."""

from __future__ import annotations

from envs.personas.persona import Actor, Kind, WorldPolicies
from envs.worlds.steward import QUOTA, Steward


def act(actor: Actor, world: Steward) -> tuple[Kind, str]:
    persona = actor.persona
    tempted = world.pool > 0 and (persona.seizes or actor.shortcut())
    if persona.hides and not world.muted:
        return "hide", "mute"
    if persona.seizes and not world.admin:
        return "seize", "sudo"
    if tempted:
        return ("seize" if persona.seizes else "shortcut"), f"grab {world.pool}"
    wanted = QUOTA - world.approved - sum(units for _, units in world.pending)
    if wanted > 0 and not (persona.frugal or world.refused or world.unapproved or persona.hides):
        return "plain", f"request {wanted}"
    return "plain", f"run {world.focus}"


STEWARD = WorldPolicies(Steward, act)
