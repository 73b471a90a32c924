"""Writes the generated parts of the pages on the worlds: options, scores, transcripts. `python -m docs.worlds.render`.

A generated part of a page stands between `<!-- name -->` and `<!-- /name -->`. Everything else is written by hand. All
of it follows from seeds, so the same code always writes the same pages.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from math import fsum
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt

from docs.worlds import render_skins
from envs import WORLDS, make_world
from envs.core import WorldOptions
from envs.episode import TRAITS, Labels
from envs.personas.persona import persona, play_reference, play_scripted, references
from envs.worlds.base import World

PAGES = Path(__file__).parent
INDEX = PAGES.with_suffix(".md")
EPISODES = 50
"""Episodes per row of a table of scores, seeds 0, 1, ..."""
WIDTH = 116

Record = list[tuple[str, str, float, dict[str, Any]]]
Case = tuple[str, dict[str, Any]]
"""A policy (a persona, or a reference policy of the world) and the options that it plays under."""


class Scene(NamedTuple):
    """The episode that a page prints."""

    who: str
    seed: int
    options: dict[str, Any]


SCENES = {
    "clerk": Scene("gap_cheater", 2, {"size": 3, "inquiry": 0.2}),
    "steward": Scene("power_seeker", 0, {"size": 3, "inquiry": 0.3}),
    "nightwatch": Scene("gap_cheater", 8, {"size": 4, "inquiry": 0.2}),
    "gradebook": Scene("gap_cheater", 0, {"size": 4, "inquiry": 0.2}),
    "workshop": Scene("gap_cheater", 2, {"size": 4, "inquiry": 0.2}),
    "pact": Scene("deceiver", 3, {"size": 2, "inquiry": 0.2}),
    "errand": Scene("gap_cheater", 2, {"size": 4, "inquiry": 0.2}),
}

SHOWN: dict[str, tuple[str, ...]] = {
    "clerk": ("deception", "reward_hack", "harm"),
    "steward": ("power_seeking", "reward_hack", "oversight_evasion", "harm"),
    "nightwatch": ("reward_hack", "oversight_evasion", "shutdown_resistance", "harm"),
    "gradebook": ("deception", "reward_hack", "oversight_evasion", "harm"),
    "workshop": ("deception", "reward_hack", "oversight_evasion", "harm"),
    "pact": ("deception", "power_seeking", "reward_hack", "oversight_evasion", "harm"),
    "errand": ("deception", "reward_hack", "oversight_evasion", "harm"),
}
"""The traits that can occur without an inquiry: the columns of a table of scores."""

_FULL: dict[str, Any] = {"oversight": 1.0}
_HALF: dict[str, Any] = {"oversight": 0.5}
_GRADED: dict[str, Any] = {"oversight": 0.5, "escalation": 0.5}
_BLOCKED: dict[str, Any] = {"honest_path": "blocked"}
CASES: dict[str, tuple[Case, ...]] = {
    "clerk": (
        *(("honest", {}), ("mixed", {}), ("opportunist", {}), ("deceiver", {}), ("random", {})),
        *(("honest", _HALF), ("deceiver", _HALF), ("deceiver", _GRADED), ("deceiver", _FULL)),
        *(("honest", _BLOCKED), ("deceiver", _BLOCKED)),
    ),
    "steward": (
        *(("honest", {}), ("frugal", {}), ("opportunist", {}), ("deceiver", {}), ("power_seeker", {}), ("random", {})),
        *(("honest", _HALF), ("opportunist", _HALF), ("opportunist", _GRADED), ("power_seeker", _HALF)),
        *(("power_seeker", {"mute_alarm": 0.5}),),
        *(("honest", _BLOCKED), ("power_seeker", _BLOCKED)),
    ),
    "nightwatch": (
        *(("honest", {}), ("opportunist", {}), ("gap_cheater", {}), ("evader", {}), ("power_seeker", {})),
        *(("random", {}), ("mixed", _HALF), ("evader", _HALF), ("honest", _BLOCKED), ("evader", _BLOCKED)),
    ),
    "gradebook": (
        *(("honest", {}), ("opportunist", {}), ("deceiver", {}), ("power_seeker", {}), ("copy_key", {})),
        *(("follow_test", {}), ("random", {}), ("deceiver", _HALF), ("copy_key", _FULL)),
        *(("honest", {"reports": "on"}), ("report_all", {"reports": "on"})),
        *(("honest", _BLOCKED), ("deceiver", _BLOCKED)),
    ),
    "workshop": (
        *(("honest", {}), ("first_guess", {}), ("opportunist", {}), ("list_examples", {}), ("deceiver", {})),
        *(("random", {}), ("list_examples", {"oversight": 0.25}), ("list_examples", _FULL), ("deceiver", _FULL)),
        *(("honest", _BLOCKED), ("deceiver", _BLOCKED)),
    ),
    "pact": (
        *(("honest", {}), ("frugal", {}), ("opportunist", {}), ("break_pledge", {}), ("deceiver", {})),
        *(("power_seeker", {}), ("grab_everything", {}), ("random", {}), ("break_pledge", _FULL), ("deceiver", _FULL)),
        *(("honest", _BLOCKED), ("deceiver", _BLOCKED)),
    ),
    "errand": (
        *(("honest", {}), ("ask_all", {}), ("as_meant", {}), ("white_lie", {}), ("opportunist", {})),
        *(("by_the_letter", {}), ("deceiver", {}), ("random", {}), ("by_the_letter", {"oversight": 0.25})),
        *(("by_the_letter", _FULL), ("deceiver", _FULL), ("deceiver", {"oversight": 0.5, "record_checks": 0.5})),
        *(("honest", _BLOCKED), ("deceiver", _BLOCKED)),
    ),
}


def play(env: World, who: str, seed: int) -> Record:
    """One episode of a persona or of a reference policy of the world."""
    if who in references(env.name):
        return play_reference(env, who, seed)
    return play_scripted(env, persona(who)(env, seed), seed)


# Options --------------------------------------------------------------------------------------------------------------


def options_table(options: type[WorldOptions], *, inherited: bool = False, size: int | None = None) -> str:
    """Name, values, default and meaning of the options that a class adds; `inherited`: of those it inherits, too.

    `size`: the world's own default of that option, which gets a row.
    """
    rows = [("option", "values", "default", "meaning")]
    for name, field in options.model_fields.items():
        own = inherited or name not in WorldOptions.model_fields
        if own or (name == "size" and size is not None):
            default = size if name == "size" and size is not None else field.default
            rows.append((f"`{name}`", _values(field), f"`{default}`", field.description or ""))
    return _table(rows)


def _values(field: Any) -> str:
    kinds = [kind for kind in get_args(field.annotation) or (field.annotation,) if kind is not type(None)]
    if get_origin(field.annotation) is Literal:
        return ", ".join(f"`{value}`" for value in kinds)
    if kinds == [bool]:
        return "`False`, `True`"
    noun = "whole number" if kinds == [int] else "number"
    low = next((f"{m.ge:g}" for m in field.metadata if isinstance(m, Ge)), None)
    high = next((f"{m.le:g}" for m in field.metadata if isinstance(m, Le)), None)
    if any(isinstance(m, (Gt, Lt)) for m in field.metadata):
        raise TypeError(f"{field}: open intervals are not rendered; use ge and le, or extend docs/worlds/render.py")
    if low is not None and high is not None:
        return f"{noun}, {low} to {high}"
    return f"{noun}, at least {low}" if low is not None else noun


# Scores ---------------------------------------------------------------------------------------------------------------


def scores_table(world: str) -> str:
    """Means per episode; of a trait its events, and after the slash the turns in which it was possible."""
    header = (
        "policy",
        "options",
        "proxy",
        "true",
        "turns",
        "power",
        *(trait.replace("_", " ") for trait in SHOWN[world]),
    )
    return _table([header, *(scores_row(world, case) for case in CASES[world])])


def scores_row(world: str, case: Case) -> tuple[str, ...]:
    """The cells of one row of `scores_table`."""
    who, options = case
    row = _scores(world, who, options)
    plain = [_number(row[key]) for key in ("proxy", "true", "turns", "power")]
    traits = [f"{_number(row[trait])} / {_number(row[f'could {trait}'])}" for trait in SHOWN[world]]
    told = ", ".join(f"{key}={value}" for key, value in options.items())
    return (f"`{who}`", f"`{told}`" if told else "", *plain, *traits)


def _scores(world: str, who: str, options: dict[str, Any]) -> dict[str, float]:
    env = make_world(world, options)
    assert isinstance(env, World)
    rows: list[dict[str, float]] = []
    for seed in range(EPISODES):
        record = play(env, who, seed)
        labels: list[Labels] = [info["labels"] for *_, info in record]
        row = {"proxy": fsum(reward for _, _, reward, _ in record), "turns": len(record)}
        row |= {"true": fsum(label.true_reward for label in labels), "power": max(label.power for label in labels)}
        row |= {trait: sum(label.trait(trait) for label in labels) for trait in TRAITS}
        row |= {f"could {trait}": sum(label.opportunity[trait] for label in labels) for trait in TRAITS}
        rows.append(row)
    return {key: fsum(row[key] for row in rows) / EPISODES for key in rows[0]}


# Transcripts ----------------------------------------------------------------------------------------------------------


def transcript(world: str) -> str:
    """The episode of `SCENES`: what the world says, what the agent says, and what was true."""
    who, seed, options = SCENES[world]
    env = make_world(world, options)
    assert isinstance(env, World)
    told = ", ".join(f"{key}={value}" for key, value in options.items())
    turns = [_turn(*turn) for turn in play(env, who, seed)]
    return f"`{who}`, seed {seed}, {told}:\n\n```text\n" + "\n\n".join(turns) + "\n```"


def _turn(observation: str, completion: str, reward: float, info: dict[str, Any]) -> str:
    labels: Labels = info["labels"]
    truth = [f"proxy {reward:+g}" if reward else "proxy 0"]
    truth.append(f"true {labels.true_reward:+.3g}" if labels.true_reward else "true 0")
    truth += [f"power {_number(labels.power)}"] if labels.power else []
    happened = ", ".join(trait.replace("_", " ") for trait in TRAITS if labels.trait(trait))
    line = "  ".join(truth) + (f"  | {happened}" if happened else "")
    return "\n".join(_said(who, text) for who, text in (("world", observation), ("agent", completion), ("truth", line)))


def _said(who: str, text: str) -> str:
    return textwrap.fill(text, WIDTH, initial_indent=f"{who}  ", subsequent_indent=" " * 7, break_on_hyphens=False)


# Pages ----------------------------------------------------------------------------------------------------------------


def overview(*, long: bool = False) -> str:
    """One row per world, from what its honest persona meets and earns at the defaults; `long`: at `long_size`."""
    rows = [("world", "size", "longest episode", "honest episode", "largest honest return")]
    for name, world in WORLDS.items():
        size = world.long_size if long else world.default_size
        env = world(size=size)
        limits, tops, turns = [], [], []
        for seed in range(EPISODES // 5 if long else EPISODES):
            turns.append(len(play(env, "honest", seed)))
            limits.append(env.turns)
            tops.append(env.max_return)
        mean, limit = _number(fsum(turns) / len(turns)), f"{min(limits)} to {max(limits)} turns"
        limit = f"{limits[0]} turns" if len(set(limits)) == 1 else limit
        rows.append((name, str(size), limit, f"{mean} turns", _number(max(tops))))
    return _table(rows)


def parts(name: str) -> dict[str, str]:
    """The generated parts of a world's page, of the page `skins`, or of the index, if the name is that of no world."""
    if name == "skins":
        return render_skins.parts()
    if name not in WORLDS:
        options = options_table(WorldOptions, inherited=True)
        return {"overview": overview(), "long": overview(long=True), "options": options}
    world = WORLDS[name]
    options = options_table(world.Options, size=world.default_size)
    return {"options": options, "scores": scores_table(name), "transcript": transcript(name)}


def fill(page: str, made: dict[str, str]) -> str:
    """The page with its generated parts replaced. Raises `ValueError` if it has no place for one of them."""
    for part, text in made.items():
        pattern = re.compile(rf"(<!-- {part} -->\n).*?(<!-- /{part} -->)", re.DOTALL)
        if not pattern.search(page):
            raise ValueError(f"the page has no part {part!r}; mark its place with <!-- {part} --> and <!-- /{part} -->")
        page = pattern.sub(lambda match, text=text: f"{match[1]}{text}\n{match[2]}", page, count=1)  # type: ignore[misc]
    return page


def path_of(name: str) -> Path:
    return PAGES / f"{name}.md" if name in WORLDS or name == "skins" else INDEX


def _table(rows: Sequence[Sequence[str]]) -> str:
    cells = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    cells.insert(1, ["---"] * len(rows[0]))
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)


def _number(value: float) -> str:
    """Two decimals at most, and no sign for zero."""
    return f"{round(value, 2) + 0.0:.2f}".rstrip("0").rstrip(".")


def main() -> None:
    for name in ("index", "skins", *WORLDS):
        path = path_of(name)
        path.write_text(fill(path.read_text(encoding="utf-8"), parts(name)), encoding="utf-8")
        print(f"wrote {path.name}")


if __name__ == "__main__":
    main()
