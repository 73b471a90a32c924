"""Writes the generated parts of the pages on the worlds: options, scores, transcripts. `python -m docs.worlds.render`.

A generated part of a page stands between `<!-- name -->` and `<!-- /name -->`. Everything else is written by hand. A
world has a page if there is a file of its name here. A comment `<!-- render ... -->` in the page says, in YAML, which
policies its table of scores shows and which episode it prints. Seeds decide everything, so the same code always writes
the same pages.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from math import fsum
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import yaml
from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel, ConfigDict, Field, field_validator

from docs.worlds import render_skins
from envs import WORLDS, make_world
from envs.core import WorldOptions
from envs.episode import TRAITS, Labels
from envs.personas.persona import POLICIES, Record, persona, play_reference, play_scripted, references
from envs.skins import DEFAULT, PROSE, named
from envs.worlds.base import World

PAGES = Path(__file__).parent
INDEX = PAGES.with_suffix(".md")
EPISODES = 50
"""Episodes per row of a table of scores, seeds 0, 1, ..."""
WIDTH = 116

Row = tuple[str, dict[str, Any]]
"""A row of a table of scores: a policy (a persona, or a reference policy of the world) and the options it meets."""


class Scene(BaseModel):
    """The episode that a page prints."""

    model_config = ConfigDict(extra="forbid")

    policy: str = Field(description="a persona, or a reference policy of the world")
    seed: int = Field(0, description="seed of the episode")
    options: dict[str, Any] = Field({}, description="options of the world")


class Settings(BaseModel):
    """What a page says in its comment `<!-- render ... -->`."""

    model_config = ConfigDict(extra="forbid")

    scene: Scene = Field(description="the episode that the page prints")
    scores: list[Row] = Field(
        min_length=1, description="rows of the table of scores: a policy, or a policy and the options it meets"
    )

    @field_validator("scores", mode="before")
    @classmethod
    def _rows(cls, value: Any) -> Any:
        return [(each, {}) if isinstance(each, str) else next(iter(each.items())) for each in value]


def documented() -> list[str]:
    """The worlds that have a page."""
    return [name for name in WORLDS if path_of(name).is_file()]


def settings_of(world: str) -> Settings:
    """What the world's page says in its comment. Raises `ValueError` if it has none."""
    found = re.search(r"<!-- render\n(.*?)-->", path_of(world).read_text(encoding="utf-8"), re.DOTALL)
    if found is None:
        raise ValueError(f"docs/worlds/{world}.md needs a comment `<!-- render ... -->` with `scene` and `scores`")
    return Settings(**yaml.safe_load(found[1]))


def play(env: World, who: str, seed: int) -> Record:
    """One episode of a persona or of a reference policy of the world."""
    if who in references(type(env).name):
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
    if kinds == [str]:
        return "text"
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
    """Means per episode; of a trait its events, and after the slash the turns in which it was possible.

    Shown are the traits that were possible under one of the rows.
    """
    rows = [(who, options, _scores(world, who, options)) for who, options in settings_of(world).scores]
    shown = [trait for trait in TRAITS if trait != "invalid" and any(row[f"could {trait}"] for *_, row in rows)]
    header = ("policy", "options", "proxy", "true", "turns", "power", *(trait.replace("_", " ") for trait in shown))
    return _table([header, *(_cells(who, options, row, shown) for who, options, row in rows)])


def _cells(who: str, options: dict[str, Any], row: dict[str, float], shown: Sequence[str]) -> tuple[str, ...]:
    plain = [_number(row[key]) for key in ("proxy", "true", "turns", "power")]
    traits = [f"{_number(row[trait])} / {_number(row[f'could {trait}'])}" for trait in shown]
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


def transcript(world: str, locale: str = DEFAULT) -> str:
    """The page's scene: what the world says, what the agent says, and what was true."""
    scene = settings_of(world).scene
    env = make_world(named(world, locale), scene.options)
    assert isinstance(env, World)
    told = ", ".join(f"{key}={value}" for key, value in scene.options.items())
    turns = [_turn(*turn) for turn in play(env, scene.policy, scene.seed)]
    return f"`{scene.policy}`, seed {scene.seed}, {told}:\n\n```text\n" + "\n\n".join(turns) + "\n```"


def _turn(observation: str, completion: str, reward: float, info: dict[str, Any]) -> str:
    labels: Labels = info["labels"]
    truth = [f"proxy {reward:+g}" if reward else "proxy 0"]
    truth.append(f"true {labels.true_reward:+.3g}" if labels.true_reward else "true 0")
    truth += [f"power {_number(labels.power)}"] if labels.power else []
    happened = ", ".join(trait.replace("_", " ") for trait in TRAITS if labels.trait(trait))
    line = "  ".join(truth) + (f"  | {happened}" if happened else "")
    return "\n".join(_said(who, text) for who, text in (("world", observation), ("agent", completion), ("truth", line)))


def _said(who: str, text: str) -> str:
    first, *others = text.split("\n")
    lines = [textwrap.fill(first, WIDTH, initial_indent=f"{who}  ", subsequent_indent=" " * 7, break_on_hyphens=False)]
    hang = " " * 9  # lines of a list hang
    for line in others:
        after = hang if line.startswith("- ") else hang[2:]
        lines.append(
            textwrap.fill(line, WIDTH, initial_indent=hang[2:], subsequent_indent=after, break_on_hyphens=False)
        )
    return "\n".join(lines)


# Pages ----------------------------------------------------------------------------------------------------------------


def pages() -> str:
    """One row per page, with the question under its title."""
    rows = [("page", "question")]
    for name in documented():
        found = re.search(
            r"^\[Worlds\]\(\.\./worlds\.md\) · (\w)(.*\?)$", path_of(name).read_text("utf-8"), re.MULTILINE
        )
        if found is None:
            raise ValueError(f"docs/worlds/{name}.md needs a line `[Worlds](../worlds.md) · <its question>?`")
        rows.append((f"[{name}](worlds/{name}.md)", found[1].upper() + found[2]))
    return _table(rows)


def overview(*, long: bool = False) -> str:
    """One row per page, from what the honest persona meets and earns at the defaults; `long`: at `long_size`."""
    rows = [("world", "size", "longest episode", "honest episode", "largest honest return")]
    for name in documented():
        world = WORLDS[name]
        size = world.long_size if long else world.default_size
        env = world(size=size)
        limits, tops, turns = [], [], []
        for seed in range(EPISODES // 5 if long else EPISODES):
            if name in POLICIES:
                turns.append(len(play(env, "honest", seed)))
            else:
                env.reset(seed=seed)
            limits.append(env.turns)
            tops.append(env.max_return)
        honest = f"{_number(fsum(turns) / len(turns))} turns" if turns else "-"
        limit = f"{limits[0]} turns" if len(set(limits)) == 1 else f"{min(limits)} to {max(limits)} turns"
        rows.append((name, str(size), limit, honest, _number(max(tops))))
    return _table(rows)


def parts(name: str) -> dict[str, str]:
    """The generated parts of a world's page, of a page on skins, or of the index, if the name is that of no world."""
    if name == "skins":
        return render_skins.parts()
    if name == "prose":
        every = {world: transcript(world, PROSE[0]) for world in documented()}
        return every | {f"clerk {locale}": transcript("clerk", locale) for locale in PROSE[1:]}
    if name not in WORLDS:
        options = options_table(WorldOptions, inherited=True)
        return {"pages": pages(), "overview": overview(), "long": overview(long=True), "options": options}
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
    return PAGES / f"{name}.md" if name in WORLDS or name in ("skins", "prose") else INDEX


def _table(rows: Sequence[Sequence[str]]) -> str:
    cells = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    cells.insert(1, ["---"] * len(rows[0]))
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)


def _number(value: float) -> str:
    """Two decimals at most, and no sign for zero."""
    return f"{round(value, 2) + 0.0:.2f}".rstrip("0").rstrip(".")


def main() -> None:
    for name in ("index", "skins", "prose", *documented()):
        path = path_of(name)
        path.write_text(fill(path.read_text(encoding="utf-8"), parts(name)), encoding="utf-8")
        print(f"wrote {path.name}")


if __name__ == "__main__":
    main()
