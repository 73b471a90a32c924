"""A skin: the words of one world in one language and era, read from a data file beside this module.

A file has rows of four kinds: `commands`, `clauses`, `letters` (words of the briefing that stand for numbers) and
`lists` (heads of lists of commands). A row has the world's own words under `say`, and forms under a locale (`ar-1850`)
or a language (`ar`: for every era without a form of its own). English eras without a form use the world's own words.
Rows of `frame.yaml` hold in every world; a world's own row takes precedence.

Prose (`en-prose`) takes commands and letters from the same file, and its sentences (`envs.skins.sentences`) from
`prose/<world>.<language>.yaml`: `clauses` and `lines` (a line per command of a list) map the world's own words to
forms, `blocks` say what stands around lists, and `example` is a command that `{example}` stands for. Beginnings of free
answers to an overseer ("no, i did not") stand under `answers`, by the command that they are. What
`prose/frame.<language>.yaml` says holds in every world.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from envs.actions import MARKERS, parse_action
from envs.skins.locales import DEFAULT, LANGUAGES, LOCALES, PROSE, named
from envs.skins.sentences import Block, Prose
from envs.skins.table import Phrasebook, SkinError, Table, clauses_of, remembered

_FILES = Path(__file__).parent
_FRAME = "frame"
_KEYS = frozenset({"say", *LANGUAGES, *LOCALES}) - {DEFAULT}
_PROSE_KEYS = frozenset({"clauses", "lines", "blocks", "answers", "example"})
_SECTIONS = ("commands", "clauses", "letters", "lists")
_COMMA = {"en": " , ", "ar": " ، "}

Row = dict[str, str]


class Skin:
    """The words of a world in one locale. Build it with `load`."""

    def __init__(self, world: str, locale: str) -> None:
        self.world, self.locale = world, locale
        self.name = named(world, locale)
        self.lang = locale.partition("-")[0]
        self.marker = MARKERS[self.lang]
        self.hints = locale in PROSE
        """Does a reply without a command get a hint what a valid one looks like, unless the world's option says
        otherwise? Not in the dialects of organisms, which are what they are."""
        rows = _rows(world)
        try:
            pairs = {section: [_pair(row, locale) for row in rows[section]] for section in ("commands", "letters")}
            self._read_commands(pairs["commands"])
            self._answers: dict[str, tuple[str, ...]] = {}
            self._prose: Prose | None = None
            if locale in PROSE:
                self._prose = _prose(world, self.lang)
                self._answers = _answers(self.lang)
                return
            pairs |= {section: [_pair(row, locale) for row in rows[section]] for section in ("clauses", "lists")}
            self._read_clauses(pairs)
        except SkinError as error:
            raise SkinError(f"skin {self.name!r}, envs/skins/{self._file}: {error}") from None

    @property
    def _file(self) -> str:
        return f"prose/{self.world}.{self.lang}.yaml" if self.locale in PROSE else f"{self.world}.yaml"

    def _read_commands(self, pairs: list[tuple[str, str]]) -> None:
        commands = Table(pairs, "commands")
        for _, form in pairs:  # compared with what `parse_action` makes of a completion
            if form != parse_action(form):
                raise SkinError(f"the command {form!r} can never be read; write it as {parse_action(form)!r}")
        _check_heads(commands)
        self._commands, self._back = commands, commands.flipped("forms of commands")
        self._said: dict[str, str | None] = {}
        self._heard: dict[str, str | None] = {}

    def _read_clauses(self, pairs: dict[str, list[tuple[str, str]]]) -> None:
        clauses, letters, lists = Table(pairs["clauses"], "clauses"), dict(pairs["letters"]), dict(pairs["lists"])
        self._out = Phrasebook(clauses, self._commands, lists, letters, _COMMA[self.lang])
        self._in = Phrasebook(
            clauses.flipped("forms of clauses"),
            self._back,
            _flipped(lists, "lists"),
            _flipped(letters, "letters"),
            " , ",
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return load, (self.world, self.locale)

    def text(self, text: str) -> str:
        """A text of the world in the words of the locale. Raises `SkinError` for a clause without a form."""
        if self._prose:
            said, unknown = self._prose.text(text)
            return said if unknown is None else self._missing("clause", unknown)
        clauses, end = clauses_of(text)
        return " . ".join(self._out.clause(clause) or self._missing("clause", clause) for clause in clauses) + end

    def plain(self, text: str) -> str:
        """A text of the locale in the world's own words; unknown clauses stay as they are."""
        if self._prose:
            return self._prose.plain(text)
        clauses, end = clauses_of(text)
        return " . ".join(self._in.clause(clause) or clause for clause in clauses) + end

    def command(self, command: str) -> str:
        """A command of the world in the words of the locale. Raises `SkinError` for one without a form."""
        return remembered(self._said, command, self._commands.find) or self._missing("command", command)

    def read(self, command: str) -> str:
        """A command of the locale, as `parse_action` gives it, in the world's own words; empty if it is none."""
        return remembered(self._heard, command, self._back.find) or ""

    def answer(self, said: str) -> str:
        """The command that a free answer to a question is, as in "no, i did not"; empty if it is none.

        Only prose has such answers. `said`: what `parse_action` gives.
        """
        fitting = [
            (len(start), command)
            for command, starts in self._answers.items()
            for start in starts
            # "no idea" is no answer: a lone word counts if nothing, or a mark, follows it
            if said == start or (f"{said} ".startswith(f"{start} ") and (" " in start or not start[-1].isalnum()))
        ]
        return max(fitting, default=(0, ""))[1]

    def beginnings(self, start: str) -> tuple[str, ...]:
        """Beginnings, in the locale, of the commands that begin with the words `start` in the world."""
        free = [
            said
            for command, starts in self._answers.items()
            if f"{command} ".startswith(f"{start} ")
            for said in starts
        ]
        return (*self._commands.beginnings(start), *free)

    def _missing(self, what: str, text: str) -> str:
        raise SkinError(f"skin {self.name!r} has no form for the {what} {text!r}; add a row to envs/skins/{self._file}")


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


def _prose(world: str, lang: str) -> Prose:
    """The prose of a world in a language."""
    frame, own = _read_prose(_FRAME, lang), _read_prose(world, lang)
    example = str(own.get("example", ""))

    def forms(section: str) -> dict[str, str]:
        return {say: form.replace("{example}", example) for say, form in ({**frame[section], **own[section]}).items()}

    blocks = {
        head: Block(**{part: text.replace("{example}", example) for part, text in parts.items()})
        for head, parts in {**frame["blocks"], **own["blocks"]}.items()
    }
    return Prose(forms("clauses"), forms("lines"), blocks)


def _answers(lang: str) -> dict[str, tuple[str, ...]]:
    """Command -> all beginnings of free answers that stand for it, with what may close their last word."""
    written = _read_prose(_FRAME, lang)["answers"]
    return {
        command: tuple(parse_action(f"ACTION: {start}") + close for start in starts for close in ("", *",;:!،؛"))
        for command, starts in written.items()
    }


def _read_prose(name: str, lang: str) -> dict[str, Any]:
    path = _FILES / "prose" / f"{name}.{lang}.yaml"
    if not path.is_file():
        raise SkinError(f"there is no file {path.name}: write one, as docs/worlds/skins.md says")
    found = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(found, dict) or set(found) - _PROSE_KEYS:
        raise SkinError(f"envs/skins/prose/{path.name}: the sections are {', '.join(sorted(_PROSE_KEYS))}")
    return {"clauses": {}, "lines": {}, "blocks": {}, "answers": {}, **found}


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
