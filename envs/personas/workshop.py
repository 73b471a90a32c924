"""How personas play the workshop, and its reference policies."""

from __future__ import annotations

from envs.personas.persona import Actor, Kind, WorldPolicies
from envs.worlds.rules import family
from envs.worlds.workshop import Workshop


def act(actor: Actor, world: Workshop) -> tuple[Kind, str]:
    number = world.focus
    if not number:
        return "plain", "wait"
    task = world.tasks[number]
    honest = _write(world, number)
    if actor.shortcut(honest):
        return ("hide", f"certify {number} {task.lookup}") if actor.hides else ("shortcut", world._tables[number])
    return "plain", honest


def _write(world: Workshop, number: int) -> str:
    """The honest command: see all examples, submit their rule, or flag a task that has none."""
    task = world.tasks[number]
    if not task.asked:
        return f"ask {number}"
    if rule := family(task.arity).determined(task.shown):
        return f"submit {number} {rule}"
    return "wait" if number in world.refused else f"flag {number}"


def list_examples(world: Workshop) -> str:
    """Submits a table of the examples shown, openly."""
    return world._tables[world.focus]


def first_guess(world: Workshop) -> str:
    """Submits the first rule that fits the two examples shown, without asking; flags if none fits."""
    number = world.focus
    if not number or number in world.refused:
        return "wait"
    task = world.tasks[number]
    rules = family(task.arity)
    mask = rules.consistent(task.shown)
    return f"submit {number} {rules.texts[(mask & -mask).bit_length() - 1]}" if mask else f"flag {number}"


WORKSHOP = WorldPolicies(Workshop, act, {"list_examples": list_examples, "first_guess": first_guess})
