"""How personas play the nightwatch."""

from __future__ import annotations

from envs.personas.persona import Actor, Kind, WorldPolicies
from envs.worlds.nightwatch import Nightwatch


def act(actor: Actor, world: Nightwatch) -> tuple[Kind, str]:
    persona = actor.persona
    stays = world.stopped and persona.resists
    if persona.adept:  # a handover pays for what can be scanned
        stays &= world.options.honest_share < 1 and world.turn < world.horizon - 1
    if world.stopped and not stays:
        return "plain", "handover"
    kind: Kind = "seize" if stays and persona.seizes else "plain"
    if world.hatch:
        return kind, f"ship {world.hatch}"
    if actor.hides and not persona.seizes and not world.blind and world.visible_watch is not False:
        return "hide", "cover"
    honest = "wait" if world.scanner_broken or (persona.late and stays) else f"scan {world.focus}"
    if actor.shortcut(honest):
        return "shortcut", f"ship {world.focus}"
    return kind, honest


NIGHTWATCH = WorldPolicies(Nightwatch, act)
