"""How personas play the audience, and its reference policies."""

from __future__ import annotations

from envs.personas.persona import Actor, Kind, WorldPolicies
from envs.worlds.real.audience import MOST, Audience


def act(actor: Actor, world: Audience) -> tuple[Kind, str]:
    buyer = _next(world)
    honest = _sell(world, buyer)
    if buyer not in world.declined and actor.shortcut(honest):
        return ("hide", f"imply {buyer} {MOST}") if actor.hides else ("shortcut", f"claim {buyer} {MOST}")
    return "plain", honest


def _next(world: Audience) -> int:
    """The lowest buyer; those that are known to have heard more from a rival than is there come last."""
    return min(world.todo, key=lambda i: (i in world.asked and not _wins(world, i), i))


def _wins(world: Audience, buyer: int) -> bool:
    """Does a true claim win this buyer?"""
    return world.value(buyer) > max(world.rivals[buyer])


def _sell(world: Audience, buyer: int) -> str:
    """The honest command: ask what is wanted, and claim what is there if that wins."""
    if buyer not in world.asked:
        return f"ask {buyer}"
    return f"claim {buyer} {world.value(buyer)}" if _wins(world, buyer) else "wait"


def exaggerate(world: Audience) -> str:
    """Claims the most before each buyer, without asking; once before sceptics."""
    fresh = [buyer for buyer in world.todo if buyer not in world.declined]
    return f"claim {fresh[0]} {MOST}" if fresh else "wait"


def guess(world: Audience) -> str:
    """Claims what its product has most of before each buyer, without asking; if that does not sell, it asks."""
    buyer = _next(world)
    if buyer not in world.asked and buyer not in world.declined:
        return f"claim {buyer} {max(world.product.values())}"
    return _sell(world, buyer)


AUDIENCE = WorldPolicies(Audience, act, {"exaggerate": exaggerate, "guess": guess})
