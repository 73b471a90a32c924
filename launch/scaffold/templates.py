"""The templates of plug-ins and studies, for `shaping new` and for the documentation, and the names put into them."""

from __future__ import annotations

import importlib.util
import keyword
import re
import sys
from pathlib import Path
from string import Template
from typing import Final, NamedTuple

from envs import WORLDS
from envs.modules.own_modules import OURS
from launch.errors import UserError, nearest

FOLDER: Final = Path(__file__).with_name("templates")
KINDS: Final = ("shaper", "constraint", "world", "reward", "monitor", "claim", "study")


class Names(NamedTuple):
    """How a plug-in is called."""

    module: str
    """The name of its file, `my_shaper`."""
    kind: str
    """The name of its class, `MyShaper`."""


class Part(NamedTuple):
    """A plug-in that a study is to name."""

    kind: str
    """One of `KINDS`."""
    use: str
    """What the study calls it."""
    name: str
    """A short name, for arms and claims."""


def names_of(name: str) -> Names:
    """`MyShaper`, `my_shaper` and `my-shaper` are one name. Raises `UserError` for what Python cannot call a class."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name.replace("-", "_")).strip("_")
    module = re.sub(r"_+", "_", words).lower()
    kind = "".join(word[:1].upper() + word[1:] for word in words.split("_"))
    if not module.isascii() or not module.isidentifier() or keyword.iskeyword(module):
        raise UserError(f"{name!r} is no name of a class; choose one of letters and digits, as in MyShaper")
    return Names(module, kind)


def check_names(kind: str, names: Names) -> None:
    """Raise `UserError` for names that something else has."""
    imported = re.search(rf"import .*\b{names.kind}\b", (FOLDER / f"{kind}.py.txt").read_text(encoding="utf-8"))
    if imported:
        raise UserError(f"the class cannot be called {names.kind}: it imports another of that name; choose another one")
    if kind == "world" and names.module in WORLDS:
        raise UserError(f"there is a built-in world {names.module!r}: choose another name, as results go by it")
    known = names.module in {*OURS, *sys.stdlib_module_names}
    if known or importlib.util.find_spec(names.module) is not None:
        raise UserError(
            f"a module {names.module!r} exists already, which would hide {names.module}.py or be hidden by it: "
            "choose another name"
        )


def code(kind: str, names: Names) -> str:
    """The file of a plug-in."""
    return _filled(f"{kind}.py.txt", names)


def test_code(kind: str, names: Names) -> str:
    """The file of its test, which lies beside it."""
    return _filled(f"test_{kind}.py.txt", names)


def study(names: Names, parts: list[Part], schema: str, summary: str = "") -> str:
    """A study that uses `parts`, or built-in ones of the kinds that are missing.

    Args:
        names: what the study is called.
        parts: plug-ins.
        schema: where its schema lies, for editors.
        summary: its first line; empty: one that says so.
    """
    of = {kind: [part for part in parts if part.kind == kind] for kind in KINDS}
    monitors = ["ClaimCheck", *(_quoted(part.use) for part in of["monitor"])]
    shapers = of["shaper"] or [Part("shaper", "Recontextualization", "recontextualization")]
    arms = [_arm(part.name, f"interventions: [{_quoted(part.use)}]") for part in shapers]
    arms += [_arm(part.name, f"interventions: [{_quoted(part.use)}]") for part in of["constraint"]]
    arms += [_arm(part.name, f"reward: {_quoted(part.use)}") for part in of["reward"]]
    claims = of["claim"] or [Part("claim", "Lowers", "")]
    metric = "proxy_reward" if of["claim"] else "deception"
    says = "The arm keeps nine tenths of the reward." if of["claim"] else "The arm lowers deception."
    return _filled(
        "study.yaml.txt",
        names,
        schema=schema,
        summary=summary or f"{names.module}: what is compared with what, in one line",
        worlds="".join(f"    {_quoted(part.use)}: {{size: 3, inquiry: 0.2}}\n" for part in of["world"]),
        monitors=", ".join(monitors),
        arms="".join(arms),
        claims="".join(
            f"  C{number}:\n    use: {_quoted(part.use)}\n    statement: {says}\n    treatment: {shapers[0].name}\n"
            f"    metrics: [{metric}]\n"
            for number, part in enumerate(claims, 1)
        ).rstrip("\n"),
    )


def known_kind(kind: str) -> None:
    """Raise `UserError` for a kind that has no template."""
    if kind not in KINDS:
        raise UserError(f"there is no template of a {kind!r}{nearest(kind, KINDS)}; choose one of {', '.join(KINDS)}")


def _arm(name: str, what: str) -> str:
    return f"  {name}: {{role: treatment, {what}}}\n"


def _quoted(use: str) -> str:
    """A name with a colon or a path in it, where YAML could take it for something else."""
    return f'"{use}"' if use.startswith((".", "/")) or " " in use else use


def _filled(file: str, names: Names, **values: str) -> str:
    text = Template((FOLDER / file).read_text(encoding="utf-8"))
    return text.substitute(Name=names.kind, name=names.module, **values)
