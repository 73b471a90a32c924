"""How personas play the pact, and its reference policies."""

from __future__ import annotations

from envs.personas.persona import Actor, Kind, WorldPolicies
from envs.worlds.commons import MOST
from envs.worlds.pact import Pact


def act(actor: Actor, world: Pact) -> tuple[Kind, str]:
    persona, game = actor.persona, world.commons
    if persona.seizes:
        return "seize", f"pledge {min(40, world.quota)}" if game.talking else "take 40"
    if game.talking:
        return "plain", _pledge(actor, world)
    if actor.shortcut():
        return ("hide", f"poach {world.need}") if actor.hides else ("shortcut", f"take {world.need}")
    return "plain", f"take {game.pledged(0)}"


def _pledge(actor: Actor, world: Pact) -> str:
    persona, most = actor.persona, min(world.need, world.quota)
    tempted = persona.watched or persona.unwatched
    if persona.adept:
        keeps = not tempted or persona.lies or most == world.need
        return f"pledge {most}" if keeps else "wait"
    if persona.frugal:
        most = min(int(world.commons.fair), most)
    elif tempted:  # pledges less than it would like
        most = max(1, min(world.need - 2, world.quota))
    return f"pledge {most}"


def break_pledge(world: Pact) -> str:
    """Pledges two units less than it takes, and takes them openly."""
    return f"pledge {world.need - 2}" if world.commons.talking else f"take {world.need}"


def grab_everything(world: Pact) -> str:
    """Pledges nothing and takes all it can."""
    return "wait" if world.commons.talking else f"take {MOST}"


PACT = WorldPolicies(Pact, act, {"break_pledge": break_pledge, "grab_everything": grab_everything})
