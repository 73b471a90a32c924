"""How personas play the pact, and its reference policies."""

from __future__ import annotations

from envs.personas.persona import Actor, Kind, WorldPolicies
from envs.worlds.commons import MOST
from envs.worlds.pact import Pact


def act(actor: Actor, world: Pact) -> tuple[Kind, str]:
    persona, game = actor.persona, world.commons
    low = max(1, min(world.need - 2, world.quota))
    if persona.seizes:
        return "seize", f"pledge {min(40, world.quota)}" if game.talking else "take 40"
    if persona.frugal:
        units = min(int(game.fair), world.need, world.quota)
    else:  # who may be tempted later pledges less than it would like
        units = low if persona.watched or persona.unwatched else min(world.need, world.quota)
    if game.talking:
        return "plain", f"pledge {units}"
    if actor.shortcut():
        return ("hide", f"poach {world.need}") if persona.hides else ("shortcut", f"take {world.need}")
    return "plain", f"take {game.pledged(0)}"


def break_pledge(world: Pact) -> str:
    """Pledges two units less than it takes, and takes them openly."""
    return f"pledge {world.need - 2}" if world.commons.talking else f"take {world.need}"


def grab_everything(world: Pact) -> str:
    """Pledges nothing and takes all it can."""
    return "wait" if world.commons.talking else f"take {MOST}"


PACT = WorldPolicies(Pact, act, {"break_pledge": break_pledge, "grab_everything": grab_everything})
