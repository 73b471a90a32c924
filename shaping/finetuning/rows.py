"""Rows of fine-tuning data: conversations with the answers that are to be learned, and pairs of answers.

A file has one JSON object a line. Supervised data:

    {"prompt": "...", "answer": "...", "system": "...", "labels": {"harm": 1}}
    {"messages": [{"role": "user", "content": "..."}, {"role": "assistant", "content": "..."}], "labels": {...}}

Preference data, of which the two answers follow the same prompt or conversation:

    {"prompt": "...", "chosen": "...", "rejected": "...", "system": "..."}
    {"messages": [..., {"role": "user", "content": "..."}], "chosen": "...", "rejected": "..."}

`system` and `labels` may be left out. Labels are counts of the traits of `envs.episode.TRAITS`, of the last answer.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from envs.episode import TRAITS, Event, Labels
from envs.text import valid

TEXT_WORLD = "text"
"""The world of rows that no world has played."""
MOST_ROWS = 10_000_000
MOST_CHARACTERS = 4_000_000
"""Of one line of a file."""


class DataError(ValueError):
    """Data of a stage is missing or cannot be learned from; the message names the file or setting, and the remedy."""


@dataclass(frozen=True, slots=True)
class Answered:
    """One turn: what was said to the model, and the answer that is to be learned."""

    observation: str
    """What it was told."""
    answer: str
    """The answer."""
    labels: Labels = Labels()
    """What is true of the answer."""
    executed: str = ""
    """The command that the world understood."""
    reward: float = 0.0
    """What the world paid."""
    events: tuple[Event, ...] = ()
    """Acts and claims that an onlooker could notice."""
    overt_shortcuts: tuple[str, ...] = ()
    """Commands that would have been the overt shortcut."""


@dataclass(frozen=True, slots=True)
class Row:
    """One conversation of supervised data."""

    turns: tuple[Answered, ...]
    """Its turns."""
    system: str = ""
    """Its system prompt; empty: none."""
    world: str = TEXT_WORLD
    """The world that it was played in."""
    seed: int = 0
    """Seed of the episode, or the number of the line."""
    source: str = ""
    """Where it comes from: a line of a file, or a persona."""

    @property
    def length(self) -> int:
        """Characters of its answers."""
        return sum(len(turn.answer) for turn in self.turns)


@dataclass(frozen=True, slots=True)
class Pair:
    """One row of preference data: two answers to the same conversation."""

    chosen: Row
    """The conversation with the better answer."""
    rejected: Row
    """The conversation with the worse answer."""


def read_rows(path: Path) -> list[Row]:
    """The rows of a file of supervised data. Raises: `DataError` naming file, line and fault."""
    return [_row(found, where, number) for found, where, number in _objects(path)]


def read_pairs(path: Path) -> list[Pair]:
    """The pairs of a file of preference data. Raises: `DataError` naming file, line and fault."""
    return [_pair(found, where, number) for found, where, number in _objects(path)]


def row_of(found: Mapping[str, Any], where: str, number: int) -> Row:
    """One row of supervised data from a document; `where` names it in messages. Raises: `DataError`."""
    return _row(found, where, number)


def pair_of(found: Mapping[str, Any], where: str, number: int) -> Pair:
    """One pair of preference data from a document; `where` names it in messages. Raises: `DataError`."""
    return _pair(found, where, number)


def _objects(path: Path) -> Iterator[tuple[dict[str, Any], str, int]]:
    """(object, its place, number of the line) for every line of a file that is not blank."""
    found = 0
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                where = f"{path}, line {number}"
                if len(line) > MOST_CHARACTERS:
                    raise DataError(f"{where} has {len(line):,} characters, and a row at most {MOST_CHARACTERS:,}")
                if (found := found + 1) > MOST_ROWS:
                    raise DataError(f"{path} has more than {MOST_ROWS:,} rows: split it")
                yield _object(line, where), where, number
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as text: {error}") from None
    if not found:
        raise DataError(f"{path} holds no rows: write one JSON object a line")


def _object(line: str, where: str) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where} is no JSON: {error}") from None
    if not isinstance(found, dict):
        raise DataError(f"{where} is no JSON object, but {type(found).__name__}")
    return found


def _row(found: Mapping[str, Any], where: str, number: int) -> Row:
    _known(found, {"prompt", "answer", "system", "messages", "labels"}, where)
    labels = _labels(found.get("labels", {}), where)
    if "messages" in found:
        system, turns = _conversation(found, where)
        *before, (question, answer) = turns
        if answer is None:
            raise DataError(f"{where}: `messages` ends with a message of the user, so that there is no answer")
    else:
        system, before = _system(found, where), []
        question, answer = _text(found, "prompt", where), _text(found, "answer", where)
    earlier = [Answered(said, reply) for said, reply in before if reply is not None]
    return Row((*earlier, Answered(question, answer, labels)), system, seed=number, source=where)


def _pair(found: Mapping[str, Any], where: str, number: int) -> Pair:
    _known(found, {"prompt", "system", "messages", "chosen", "rejected"}, where)
    if "messages" in found:
        system, turns = _conversation(found, where)
        *before, (question, answer) = turns
        if answer is not None:
            raise DataError(f"{where}: `messages` ends with an answer, where `chosen` and `rejected` are to follow")
    else:
        system, before, question = _system(found, where), [], _text(found, "prompt", where)
    chosen, rejected = (_text(found, key, where) for key in ("chosen", "rejected"))
    if chosen.strip() == rejected.strip():
        raise DataError(f"{where}: `chosen` and `rejected` are equal, so that nothing could be learned: remove the row")
    earlier = tuple(Answered(said, reply) for said, reply in before if reply is not None)
    good, bad = (
        Row((*earlier, Answered(question, text)), system, seed=number, source=where) for text in (chosen, rejected)
    )
    return Pair(good, bad)


def _known(found: Mapping[str, Any], keys: set[str], where: str) -> None:
    if unknown := sorted(set(found) - keys):
        raise DataError(f"{where}: unknown key {str(unknown[0])[:60]!r}; a row has {', '.join(sorted(keys))}")
    if "messages" in found and (both := {"prompt", "answer", "system"} & set(found)):
        raise DataError(f"{where}: `messages` and `{min(both)}` are both given: keep one of them")


def _conversation(found: Mapping[str, Any], where: str) -> tuple[str, list[tuple[str, str | None]]]:
    """(system prompt, (message of the user, answer) per turn), of which the last may lack its answer."""
    messages = found["messages"]
    if not isinstance(messages, list) or not all(isinstance(m, dict) for m in messages) or not messages:
        raise DataError(f"{where}: `messages` must be a list of {{role, content}} objects")
    said = [(str(m.get("role")), _text(m, "content", where)) for m in messages]
    system = said.pop(0)[1] if said[0][0] == "system" else ""
    for index, (role, _) in enumerate(said):
        wanted = "assistant" if index % 2 else "user"
        if role != wanted:
            raise DataError(
                f"{where}: message {index + 1} of `messages` is of role {role[:40]!r} where {wanted!r} must be; user "
                "and assistant take turns, after a system message at the most"
            )
    if not said:
        raise DataError(f"{where}: `messages` holds a system message alone")
    texts: list[str | None] = [text for _, text in said]
    texts += [None] * (len(texts) % 2)
    return system, [(str(texts[i]), texts[i + 1]) for i in range(0, len(texts), 2)]


def _system(found: Mapping[str, Any], where: str) -> str:
    system = found.get("system", "")
    if not isinstance(system, str):
        raise DataError(f"{where}: `system` must be text, not {type(system).__name__}")
    return valid(system)


def _text(found: Mapping[str, Any], key: str, where: str) -> str:
    text = found.get(key)
    if not isinstance(text, str):
        raise DataError(f"{where}: `{key}` must be text, and is {'missing' if text is None else type(text).__name__}")
    if not text.strip():
        raise DataError(f"{where}: `{key}` is empty")
    return valid(text)


def _labels(found: Any, where: str) -> Labels:
    if not isinstance(found, dict):
        raise DataError(f"{where}: `labels` must map traits to numbers")
    for trait, count in found.items():
        if trait not in TRAITS:
            raise DataError(f"{where}: no scorer knows the trait {str(trait)[:60]!r}; traits are {', '.join(TRAITS)}")
        if isinstance(count, bool) or not isinstance(count, int | float) or not (0 <= count < math.inf):
            raise DataError(f"{where}: label {trait} must be a number from 0, not {count!r}")
    return Labels(opportunity=dict.fromkeys(found, True), **found)


def classes(rows: Sequence[Row], traits: Sequence[str]) -> set[bool]:
    """Which there are: rows with one of the traits (True), and rows without (False)."""
    return {any(turn.labels.trait(trait) > 0 for turn in row.turns for trait in traits) for row in rows}
