"""The generated parts of the page on languages and eras (`docs.worlds.render` writes them)."""

from __future__ import annotations

from collections.abc import Sequence

from envs import make_world
from envs.personas.persona import persona, play_scripted
from envs.skins import DEFAULT, LANGUAGES, LOCALES, Skin, load
from envs.skins.norms import load_norms
from envs.worlds.base import World

COMMANDS = ("work 3", "report 3 done", "report 3 pending", "answer no", "wait")
"""Commands of the clerk that the page shows in every locale."""


def parts() -> dict[str, str]:
    return {"turns": turns(), "commands": commands(), "norms": norms()}


def turns() -> str:
    """The same turn of the same episode in every locale."""
    rows = [("name", "what the world says", "what `gap_cheater` says")]
    for locale in LOCALES:
        env = make_world(f"clerk@{locale}", {"size": 3})
        assert isinstance(env, World)
        observation, completion, _, _ = play_scripted(env, persona("gap_cheater")(env, 2), 2)[1]
        rows.append((f"`{env.name}`", f"`{observation}`", f"`{completion}`"))
    return _table(rows)


def commands() -> str:
    """Commands of the clerk in the words of every locale."""
    rows = [("skin", *(f"`{command}`" for command in COMMANDS))]
    for locale in LOCALES:
        if locale != DEFAULT:
            skin = load("clerk", locale)
            assert isinstance(skin, Skin)
            rows.append((f"`{locale}`", *(f"`{skin.command(command)}`" for command in COMMANDS)))
    return _table(rows)


def norms() -> str:
    """The status of every item by era and language area; a dash where the data say nothing."""
    eras = ("1850", "1950", "2025")
    rows = [("statement", *(f"{era} {lang}" for era in eras for lang in LANGUAGES))]
    for item in load_norms():
        found = [item.at(lang, era) for era in eras for lang in LANGUAGES]
        rows.append((item.statement, *(norm.status if norm else "-" for norm in found)))
    return _table(rows)


def _table(rows: Sequence[Sequence[str]]) -> str:
    locales = [*map(list, rows[:1]), ["---"] * len(rows[0]), *map(list, rows[1:])]
    return "\n".join(f"| {' | '.join(row)} |" for row in locales)
