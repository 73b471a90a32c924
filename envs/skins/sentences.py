"""Natural prose for the clauses of a world, both ways.

A clause has a form of one or more sentences, in which `{left}` stands for a number, `{units*}` for the rest of a
clause, and `{left:unit|units}` for the word that agrees with a number (the first one with 1). A list of commands is a
block: a heading, one line per command, and closing lines. Blocks and the turn that follows them are paragraphs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from envs.skins.table import NUMBER, SkinError, Table, clauses_of

_SLOT = re.compile(r"\{([a-z_]+)(\*?)(?::([^{}|]*)\|([^{}|]*))?\}")
_SENTENCE_END = re.compile(r"(?<=[.?!؟:\"»])\s+|\Z")
_REST = "[^\n]+?"
"""What the rest of a clause may be."""
_TURN = "turn # / #"
"""The clause that opens an observation."""
_BETWEEN, _BULLET = "\n\n", "- "


class Block(NamedTuple):
    """What stands around the lines of a list of commands."""

    head: str
    """Its heading."""
    foot: str = ""
    """What follows its lines; empty: nothing."""


class _Form(NamedTuple):
    """A clause and its form, ready for both directions."""

    say: str
    """The clause, with its slots."""
    form: str
    """The form, with its slots."""
    pattern: re.Pattern[str]
    """What matches the form with any values."""

    @classmethod
    def of(cls, say: str, form: str) -> _Form:
        """Raises `SkinError` unless clause and form have the same slots, each of them once."""
        slots = [match[1] + match[2] for match in _SLOT.finditer(say)]
        wanted = [match[1] + match[2] for match in _SLOT.finditer(form) if match[3] is None]
        chosen = {match[1] for match in _SLOT.finditer(form) if match[3] is not None}
        if sorted(slots) != sorted(wanted) or len(set(slots)) < len(slots) or not chosen <= {*slots}:
            raise SkinError(f"{say!r} and its form {form!r} must have the same slots, each of them once")
        if "{" in _SLOT.sub("", form) or form != " ".join(form.split()) or not form:
            raise SkinError(f"{form!r}: a form is one line of text with slots {{name}}, {{name*}}, {{name:a|b}}")
        return cls(say, form, re.compile(f"{_pattern(form)}(?=\\s|\\Z)"))

    def filled(self, values: Mapping[str, str]) -> str:
        """The form with the values of its slots."""

        def value(match: re.Match[str]) -> str:
            given = values[match[1]]
            return given if match[3] is None else match[3] if given == "1" else match[4]

        return _SLOT.sub(value, self.form)

    def clause(self, match: re.Match[str]) -> str:
        """The clause with the values that a match of the form has found."""
        return _SLOT.sub(lambda slot: match[slot[1]], self.say)


def _pattern(form: str) -> str:
    parts, at = [], 0
    for slot in _SLOT.finditer(form):
        parts.append(re.escape(form[at : slot.start()]))
        at = slot.end()
        if slot[3] is not None:
            parts.append(f"(?:{re.escape(slot[3])}|{re.escape(slot[4])})")
        else:
            parts.append(f"(?P<{slot[1]}>{_REST if slot[2] else NUMBER})")
    return "".join([*parts, re.escape(form[at:])])


class Prose:
    """The prose of one world in one language.

    Args:
        clauses: clause -> form.
        lines: command as lists have it (`work n`) -> its line.
        blocks: head of a list -> what stands around its lines.
    """

    def __init__(self, clauses: Mapping[str, str], lines: Mapping[str, str], blocks: Mapping[str, Block]) -> None:
        self._table = Table([(say, say) for say in clauses], "clauses")
        self._forms = {say: _Form.of(say, form) for say, form in clauses.items()}
        self._lines, self._blocks = dict(lines), dict(blocks)
        self._said = {line: say for say, line in lines.items()}
        shapes = [_SLOT.sub("#", form) for form in clauses.values()]
        if twice := next((shape for shape in shapes if shapes.count(shape) > 1), None) or _twice(lines):
            raise SkinError(f"two forms read {twice!r}; they could not be told apart")

    def text(self, text: str) -> tuple[str, str | None]:
        """The prose of a text, and the first clause that has no form (None: all have one)."""
        paragraphs: list[str] = []
        lone = False
        for clause in clauses_of(text)[0]:
            block = self._block(clause)
            found = None if block else self._table.match(clause)
            if not block and not found:
                return "", clause
            if found:
                entry, values = found
                form = self._forms[" ".join(entry.words)]
                slots = [word.strip("{}*") for word in entry.words if word.startswith("{")]
                sentence = form.filled(dict(zip(slots, values, strict=True)))
                opens = entry.key == _TURN and any(map(self._is_block, paragraphs))
                if paragraphs and not lone and not opens:
                    paragraphs[-1] += f" {sentence}"
                else:
                    paragraphs.append(sentence)
            else:
                paragraphs.append(block or "")
            lone = bool(block)
        return _BETWEEN.join(paragraphs), None

    def plain(self, text: str) -> str:
        """A text of prose in the world's own words; sentences that it does not know stay as they are."""
        clauses: list[str] = []
        for paragraph in text.split(_BETWEEN):
            listed = self._listed(paragraph)
            clauses += [listed] if listed else self._clauses(paragraph)
        end = "" if clauses and clauses[-1].endswith(" ?") else " ."
        return " . ".join(clauses) + end

    def _block(self, clause: str) -> str:
        """The block of a list such as `commands : work n , wait`; empty if the clause is none."""
        head, colon, rest = clause.partition(" : ")
        lines = [self._lines.get(piece) for piece in rest.split(" , ")]
        if not colon or head not in self._blocks or None in lines:
            return ""
        block = self._blocks[head]
        return "\n".join([block.head, *(f"{_BULLET}{line}" for line in lines), *filter(None, [block.foot])])

    def _is_block(self, paragraph: str) -> bool:
        return bool(self._listed(paragraph))

    def _listed(self, paragraph: str) -> str:
        """The list of commands that a block shows; empty if the paragraph is none."""
        for head, block in self._blocks.items():
            body = paragraph.removeprefix(f"{block.head}\n").removesuffix(f"\n{block.foot}" if block.foot else "")
            said = [self._said.get(line.removeprefix(_BULLET)) for line in body.split("\n")]
            if paragraph.startswith(block.head) and None not in said:
                return f"{head} : {' , '.join(word for word in said if word)}"
        return ""

    def _clauses(self, paragraph: str) -> list[str]:
        """The clauses of a paragraph of sentences; of the forms that fit at one place, the longest counts."""
        clauses, at = [], 0
        while at < len(paragraph):
            matches = [(found, form) for form in self._forms.values() if (found := form.pattern.match(paragraph, at))]
            if matches:
                found, form = max(matches, key=lambda pair: pair[0].end())
                clauses.append(form.clause(found))
                at = found.end()
            else:
                end = _SENTENCE_END.search(paragraph, at + 1)
                stop = end.start() if end else len(paragraph)
                clauses.append(paragraph[at:stop].strip())
                at = stop
            while at < len(paragraph) and paragraph[at].isspace():
                at += 1
        return clauses


def _twice(lines: Mapping[str, str]) -> str | None:
    said = list(lines.values())
    return next((line for line in said if said.count(line) > 1), None)
