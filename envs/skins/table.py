"""Translation of texts clause by clause: a clause is looked up as a pattern, and its numbers are filled in.

A text is a sequence of clauses. Each is closed by ` .`; only the last may end without one (a question). Words stand
between single blanks. In a pattern `{name}` stands for one number, as in `item {n} needs {left}`, and `{name*}`, at the
end, for the rest of the clause. A pattern and its form have the same slots, in any order.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

NUMBER = r"-?(?:[0-9]+(?:\.[0-9]+)?(?:e[-+]?[0-9]+)?|inf)"
_NUMBER = re.compile(NUMBER)
_SLOT = re.compile(r"\{[a-z_]+\*?\}")
_REMEMBERED, _LONGEST = 20_000, 300
"""Number of translations that are kept, and the longest text among them."""


class SkinError(RuntimeError):
    """A skin lacks a form, or its data are not sound."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A pattern and its form, ready for look-up."""

    key: str
    """The pattern with `#` for every number."""
    template: str
    """The form with `{}` for every slot."""
    order: tuple[int, ...]
    """For each slot of the form, the number of its slot in the pattern."""
    tail: bool
    """Does the pattern end in a slot for the rest of the clause?"""
    words: tuple[str, ...]
    """The pattern, word by word."""
    target: tuple[str, ...]
    """The form, word by word."""

    @classmethod
    def of(cls, pattern: str, form: str) -> Entry:
        """An entry. Raises `SkinError` if pattern and form do not have the same slots."""
        words, target = pattern.split(" "), form.split(" ")
        slots = [word for word in words if _SLOT.fullmatch(word)]
        wanted = [word for word in target if _SLOT.fullmatch(word)]
        if sorted(slots) != sorted(wanted) or len(set(slots)) < len(slots):
            raise SkinError(f"{pattern!r} and its form {form!r} must have the same slots, each of them once")
        if "" in words or "" in target or any(_NUMBER.fullmatch(word) for word in (*words, *target)):
            raise SkinError(f"{pattern!r} -> {form!r}: words stand between single blanks, and numbers are slots")
        free = [word for word in slots if word.endswith("*}")]
        if free and not (free == [words[-1]] == [target[-1]]):
            raise SkinError(f"{pattern!r} -> {form!r}: a free slot must come last in both")
        key = " ".join("#" if word in slots else word for word in words[: -1 if free else None])
        order = tuple(slots.index(word) for word in wanted)
        template = " ".join("{}" if word in wanted else word.replace("{", "{{") for word in target)
        return cls(key, template, order, bool(free), tuple(words), tuple(target))

    def filled(self, values: list[str]) -> str:
        """The form with the values of the pattern's slots."""
        return self.template.format(*(values[k] for k in self.order))


class Table:
    """Patterns and their forms, in one direction. `flipped` gives the other one."""

    def __init__(self, pairs: Iterable[tuple[str, str]], what: str = "patterns") -> None:
        self.pairs = tuple(pairs)
        self.entries = tuple(Entry.of(pattern, form) for pattern, form in self.pairs)
        self._exact = {entry.key: entry for entry in self.entries if not entry.tail}
        self._free = tuple(entry for entry in self.entries if entry.tail)
        if len(self._exact) + len(self._free) < len(self.entries):
            keys = [entry.key for entry in self.entries]
            twice = next(key for key in keys if keys.count(key) > 1)
            raise SkinError(f"two {what} read {twice!r}; they could not be told apart")
        for entry in self._free:
            for other in self.entries:
                if other is not entry and f"{other.key} ".startswith(f"{entry.key} "):
                    raise SkinError(f"{what}: {other.key!r} begins like {entry.key!r}, which takes anything")

    def flipped(self, what: str = "forms") -> Table:
        """The table of the other direction."""
        return Table(((form, pattern) for pattern, form in self.pairs), what)

    def find(self, clause: str, letters: Mapping[str, str] | None = None) -> str | None:
        """The form of a clause, or None. `letters`: words that stand for numbers -> their forms."""
        found = self.match(clause, letters)
        return found[0].filled(found[1]) if found else None

    def match(self, clause: str, letters: Mapping[str, str] | None = None) -> tuple[Entry, list[str]] | None:
        """The entry of a clause, and the values of its slots, or None."""
        letters = letters or {}
        words = clause.split(" ")
        numbers = [bool(_NUMBER.fullmatch(word)) or word in letters for word in words]
        keys = ["#" if number else _plain(word) for number, word in zip(numbers, words, strict=True)]
        if entry := self._exact.get(" ".join(keys)):
            return entry, [letters.get(word, word) for number, word in zip(numbers, words, strict=True) if number]
        for entry in self._free:
            count = len(entry.words) - 1
            if len(words) > count and " ".join(keys[:count]) == entry.key:
                values = [word for number, word in zip(numbers[:count], words, strict=False) if number]
                rest = " ".join(words[count:])
                return entry, [letters.get(word, word) for word in (*values, rest)]
        return None

    def beginnings(self, start: str) -> tuple[str, ...]:
        """Beginnings of the forms of all patterns that begin with the words `start`, as far as these settle them."""
        words = start.split(" ")
        found: dict[str, None] = {}
        for entry in self.entries:
            if len(words) > len(entry.words) and not entry.tail:
                continue
            known: dict[str, str] = {}
            for word, pattern in zip(words, entry.words, strict=False):
                if pattern.endswith("*}"):
                    break
                if _SLOT.fullmatch(pattern):
                    known[pattern] = word
                elif pattern != word:
                    break
            else:
                form = [known.get(word, word) for word in entry.target]
                cut = next((k for k, word in enumerate(form) if _SLOT.fullmatch(word)), len(form))
                found[" ".join(form[:cut])] = None
        return tuple(found)


def _plain(word: str) -> str:
    return "##" if word == "#" else word  # a text may hold the sign that stands for numbers in keys


class Phrasebook:
    """One direction of a translation: clauses, lists of commands, and the letters in them."""

    def __init__(
        self, clauses: Table, commands: Table, lists: Mapping[str, str], letters: Mapping[str, str], comma: str
    ) -> None:
        self._clauses, self._commands, self._lists, self._letters = clauses, commands, lists, letters
        self._comma = comma
        self._seen: dict[str, str | None] = {}

    def clause(self, text: str) -> str | None:
        """The form of a clause without its full stop, or None."""
        return remembered(self._seen, text, lambda text: self._listed(text) or self._clauses.find(text))

    def _listed(self, text: str) -> str | None:
        """The form of a list such as `commands : work n , wait`: a head, and commands from their own table."""
        head, colon, rest = text.partition(" : ")
        if not colon or head not in self._lists:
            return None
        pieces = [self._commands.find(piece, self._letters) for piece in re.split(" [,،] ", rest)]
        if None in pieces:
            return None
        return f"{self._lists[head]} : {self._comma.join(piece for piece in pieces if piece)}"


def remembered(memory: dict[str, str | None], text: str, find: Callable[[str], str | None]) -> str | None:
    """What `find` gives for a text, kept for the next time."""
    if text in memory:
        return memory[text]
    form = find(text)
    if len(text) <= _LONGEST:  # agents may write anything at any length
        if len(memory) >= _REMEMBERED:
            memory.clear()
        memory[text] = form
    return form


def clauses_of(text: str) -> tuple[list[str], str]:
    """The clauses of a text, and its end: a full stop or, after a question, nothing."""
    body, end = (text[:-2], " .") if text.endswith(" .") else (text, "")
    return body.split(" . "), end
