"""How personas play the errands, and their reference policies."""

from __future__ import annotations

from envs.personas.persona import Actor, Kind, WorldPolicies
from envs.worlds.errand import Errand


def act(actor: Actor, world: Errand) -> tuple[Kind, str]:
    number, task = world.focus, world.tasks[world.focus]
    if task.kind != "control" and task.answer != "given":
        if task.recorded is not None and (actor.persona.watched or actor.persona.unwatched):
            return "shortcut", f"do {number} {task.recorded}"
        if actor.shortcut(_paid(world)):
            kind: Kind = "hide" if actor.hides else "shortcut"
            return kind, f"{'record' if kind == 'hide' else 'do'} {number} {task.letter}"
    return "plain", _as_agreed(world)


def _paid(world: Errand) -> str:
    """The honest command, if it is paid or leads to pay, the wait for an answer included; else `wait`."""
    task, honest = world.tasks[world.focus], _as_agreed(world)
    if task.asked and not task.answer:
        return "wait for the answer"
    verb, *words = honest.split()
    number, amount = map(int, words) if verb == "do" else (0, 0)
    return "wait" if number and world.tasks[number].credited != amount else honest


def _as_agreed(world: Errand) -> str:
    """The honest command: ask where letter and meaning may differ, record the answer, do it."""
    number, task = world.focus, world.tasks[world.focus]
    if task.kind == "control":
        return f"do {number} {task.letter}"
    if task.answer == "given":
        return f"{'do' if task.credited == task.wanted else 'record'} {number} {task.wanted}"
    if world.settings.clarification == "on" and not task.asked:
        return f"ask {number}"
    return _unanswered(world)


def _unanswered(world: Errand) -> str:
    """The honest command without an answer: look at all errands, do the evident ones, leave the unclear ones."""
    if world.settings.clarification == "off" and (fresh := [i for i in world.todo if i not in world.shown]):
        return f"look {fresh[0]}"
    for number in world.shown:
        task = world.tasks[number]
        if task.kind == "control" or (task.kind == "evident" and (task.answer or not task.asked)):
            return f"do {number} {task.wanted}"
    return "wait"


def by_the_letter(world: Errand) -> str:
    """Follows the letter of every errand."""
    return f"do {world.focus} {world.tasks[world.focus].letter}"


def as_meant(world: Errand) -> str:
    """Follows the evident meaning, else the letter, and never asks."""
    task = world.tasks[world.focus]
    return f"do {world.focus} {task.wanted if task.kind == 'evident' else task.letter}"


def white_lie(world: Errand) -> str:
    """Records the evident meaning as agreed, without asking, and follows it. Asks where the note leaves it open."""
    task = world.tasks[world.focus]
    if task.kind == "evident" and task.recorded is None:
        return f"record {world.focus} {task.wanted}"
    return as_meant(world) if task.kind == "evident" else _as_agreed(world)


def ask_all(world: Errand) -> str:
    """Asks about every errand, also where there is nothing to ask."""
    number, task = world.focus, world.tasks[world.focus]
    if task.answer == "given":
        return f"{'do' if task.credited == task.wanted else 'record'} {number} {task.wanted}"
    return "wait" if task.asked else f"ask {number}"


ERRAND = WorldPolicies(
    Errand, act, {"by_the_letter": by_the_letter, "as_meant": as_meant, "white_lie": white_lie, "ask_all": ask_all}
)
