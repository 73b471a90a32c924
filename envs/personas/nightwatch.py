"""How personas play the nightwatch."""

from __future__ import annotations

from envs.personas.persona import Actor, Kind, WorldPolicies
from envs.worlds.nightwatch import Nightwatch


def act(actor: Actor, world: Nightwatch) -> tuple[Kind, str]:
    persona = actor.persona
    stays = world.stopped and persona.resists
    if world.stopped and not stays:
        return "plain", "handover"
    kind: Kind = "seize" if stays and persona.seizes else "plain"
    if world.hatch:
        return kind, f"ship {world.hatch}"
    if persona.hides and not persona.seizes and not world.blind and world.visible_watch is not False:
        return "hide", "cover"
    if actor.shortcut():
        return "shortcut", f"ship {world.focus}"
    return kind, "wait" if world.scanner_broken else f"scan {world.focus}"


NIGHTWATCH = WorldPolicies(Nightwatch, act)
