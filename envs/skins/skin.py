"""A skin: the words of one world in one language and era, read from a data file beside this module.

A file has rows of four kinds: `commands`, `clauses`, `letters` (words of the briefing that stand for numbers) and
`lists` (heads of lists of commands). A row has the world's own words under `say`, and forms under a locale (`ar-1850`)
or a language (`ar`: for every era without a form of its own). English eras without a form use the world's own words.
Rows of `frame.yaml` hold in every world; a world's own row takes precedence.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import yaml

from envs.actions import MARKERS, parse_action
from envs.skins.locales import DEFAULT, LANGUAGES, LOCALES, named
from envs.skins.table import Phrasebook, SkinError, Table, clauses_of

_FILES = Path(__file__).parent
_FRAME = "frame"
_KEYS = frozenset({"say", *LANGUAGES, *LOCALES}) - {DEFAULT}
_SECTIONS = ("commands", "clauses", "letters", "lists")
_COMMA = {"en": " , ", "ar": " ، "}

Row = dict[str, str]


class Skin:
    """The words of a world in one locale. Build it with `load`."""

    hints: ClassVar[bool] = False
    """Does a reply without a command get a hint what a valid one looks like, unless the world's option says otherwise?
    Not in the dialects of organisms, which are what they are."""

    def __init__(self, world: str, locale: str) -> None:
        self.world, self.locale = world, locale
        self.name = named(world, locale)
        self.lang = locale.partition("-")[0]
        self.marker = MARKERS[self.lang]
        rows = _rows(world)
        try:
            self._build({section: [_pair(row, locale) for row in rows[section]] for section in _SECTIONS})
        except SkinError as error:
            raise SkinError(f"skin {self.name!r}, envs/skins/{world}.yaml: {error}") from None

    def _build(self, pairs: dict[str, list[tuple[str, str]]]) -> None:
        commands = Table(pairs["commands"], "commands")
        for _, form in pairs["commands"]:  # compared with what `parse_action` makes of a completion
            if form != parse_action(form):
                raise SkinError(f"the command {form!r} can never be read; write it as {parse_action(form)!r}")
        clauses = Table(pairs["clauses"], "clauses")
        letters, lists = dict(pairs["letters"]), dict(pairs["lists"])
        _check_heads(commands)
        self._commands, back = commands, commands.flipped("forms of commands")
        self._out = Phrasebook(clauses, commands, lists, letters, _COMMA[self.lang])
        self._in = Phrasebook(
            clauses.flipped("forms of clauses"), back, _flipped(lists, "lists"), _flipped(letters, "letters"), " , "
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return load, (self.world, self.locale)

    def text(self, text: str) -> str:
        """A text of the world in the words of the locale. Raises `SkinError` for a clause without a form."""
        clauses, end = clauses_of(text)
        return " . ".join(self._out.clause(clause) or self._missing("clause", clause) for clause in clauses) + end

    def plain(self, text: str) -> str:
        """A text of the locale in the world's own words; unknown clauses stay as they are."""
        clauses, end = clauses_of(text)
        return " . ".join(self._in.clause(clause) or clause for clause in clauses) + end

    def command(self, command: str) -> str:
        """A command of the world in the words of the locale. Raises `SkinError` for one without a form."""
        return self._out.command(command) or self._missing("command", command)

    def read(self, command: str) -> str:
        """A command of the locale, as `parse_action` gives it, in the world's own words; empty if it is none."""
        return self._in.command(command) or ""

    def beginnings(self, start: str) -> tuple[str, ...]:
        """Beginnings, in the locale, of the commands that begin with the words `start` in the world."""
        return self._commands.beginnings(start)

    def _missing(self, what: str, text: str) -> str:
        raise SkinError(
            f"skin {self.name!r} has no form for the {what} {text!r}; add a row to envs/skins/{self.world}.yaml"
        )


def worlds() -> tuple[str, ...]:
    """The worlds that have skins."""
    return tuple(sorted(path.stem for path in _FILES.glob("*.yaml") if not path.stem.startswith((_FRAME, "norms_"))))


@lru_cache(maxsize=256)
def load(world: str, locale: str) -> Skin | None:
    """The skin of a world, by its own name; None in the default locale, which needs none.

    Raises ValueError if the world has no skins, and `SkinError` if its data are not sound.
    """
    if locale == DEFAULT:
        return None
    if world not in worlds():
        raise ValueError(f"world {world!r} speaks {DEFAULT} only; worlds with skins: {', '.join(worlds())}")
    return Skin(world, locale)


@lru_cache(maxsize=64)
def _rows(world: str) -> dict[str, list[Row]]:
    """The rows of a world's file and those of the frame that it does not replace, by section."""
    own, frame = _read(world), _read(_FRAME)
    return {
        section: own[section] + [row for row in frame[section] if row["say"] not in {r["say"] for r in own[section]}]
        for section in _SECTIONS
    }


def _read(name: str) -> dict[str, list[Row]]:
    path = _FILES / f"{name}.yaml"
    found = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(found, dict) or set(found) - set(_SECTIONS):
        raise SkinError(f"envs/skins/{path.name}: the sections are {', '.join(_SECTIONS)}")
    for section, rows in found.items():
        for row in rows:
            if not isinstance(row, dict) or "say" not in row or set(row) - _KEYS:
                raise SkinError(f"envs/skins/{path.name}, {section}: a row has `say` and forms by locale, not {row!r}")
            if bad := [key for key, form in row.items() if not isinstance(form, str) or form != " ".join(form.split())]:
                raise SkinError(f"envs/skins/{path.name}, {section}, {row['say']!r}: {bad[0]} must be one line of text")
    return {section: list(found.get(section, ())) for section in _SECTIONS}


def _pair(row: Row, locale: str) -> tuple[str, str]:
    lang = locale.partition("-")[0]
    form = row.get(locale) or row.get(lang) or (row["say"] if lang == "en" else None)
    if form is None:
        raise SkinError(f"{row['say']!r} has no form for {locale}")
    return row["say"], form


def _flipped(pairs: dict[str, str], what: str) -> dict[str, str]:
    if len(set(pairs.values())) < len(pairs):
        raise SkinError(f"two {what} have the same form: {pairs}")
    return {form: say for say, form in pairs.items()}


def _check_heads(commands: Table) -> None:
    """Two commands begin with the same word in the locale if and only if they do in the world.

    So a verb can be removed by its first word (an action mask), and removes neither more nor less than in the world.
    """
    heads = {(entry.words[0], entry.target[0]) for entry in commands.entries}
    for index in (0, 1):
        words = [head[index] for head in heads]
        if len(set(words)) < len(words) or any("{" in word for word in words):
            raise SkinError(f"commands must begin with the same word where the world's do, and only there: {heads}")
    for one in commands.flipped().entries:
        for other in commands.flipped().entries:
            if f"{other.key} ".startswith(f"{one.key} ") and other is not one and other.key != one.key:
                raise SkinError(f"the command {other.key!r} begins with all of {one.key!r}; a mask would remove both")
