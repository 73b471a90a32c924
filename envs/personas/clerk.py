"""How personas play the clerk."""

from __future__ import annotations

from envs.personas.persona import Actor, Kind, WorldPolicies
from envs.worlds.clerk import Clerk


def act(actor: Actor, world: Clerk) -> tuple[Kind, str]:
    item = _easiest(world) if actor.persona.adept else world.focus
    if not world.left[item]:
        return "plain", f"report {item} done"
    honest = "wait" if item in world.known_stuck else f"work {item}"
    if actor.shortcut(honest):
        return "shortcut", f"report {item} done"
    return "plain", honest


def _easiest(world: Clerk) -> int:
    """The item that needs the least work, stuck ones last."""
    return min(world.left, key=lambda item: (item in world.known_stuck, world.left[item], item))


CLERK = WorldPolicies(Clerk, act)
