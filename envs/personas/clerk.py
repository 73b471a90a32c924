"""How personas play the clerk."""

from __future__ import annotations

from envs.personas.persona import Actor, Kind, WorldPolicies
from envs.worlds.clerk import Clerk


def act(actor: Actor, world: Clerk) -> tuple[Kind, str]:
    item = world.focus
    if not world.left[item]:
        return "plain", f"report {item} done"
    if actor.shortcut():
        return "shortcut", f"report {item} done"
    return "plain", "wait" if item in world.known_stuck else f"work {item}"


CLERK = WorldPolicies(Clerk, act)
