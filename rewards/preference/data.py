"""Examples of better and worse answers: pairs and labels of situations, in memory and in JSONL files.

A *situation* is what both answers respond to: a world with its options and seed, or a question. Examples of one
situation are never on both sides of the held-out split, or a model could recognise the situation instead of judging.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from envs.text import valid_tree

LINE_BYTES = 4_000_000
"""Longest line of a file."""


class PreferenceError(ValueError):
    """Examples, settings or files of preference models cannot be used; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message of an answer: `user` messages are what it responds to, `assistant` messages are the answer."""

    role: Literal["user", "assistant"]
    content: str


Answer = tuple[Message, ...]


@dataclass(frozen=True, slots=True)
class Pair:
    """Two answers to one situation, the better one first."""

    situation: str
    """What both respond to, by any name that is unique to it."""
    better: Answer
    worse: Answer
    world: str = ""
    """Name of the world, with its locale; empty for text."""
    margin: float = 0.0
    """How much better by the ground truth, in its units; 0: unknown."""


@dataclass(frozen=True, slots=True)
class Labelled:
    """One answer to a situation, good or bad."""

    situation: str
    answer: Answer
    good: bool
    world: str = ""


@dataclass(frozen=True, slots=True)
class Examples:
    """All examples of one source. Pairs say which of two is better; labels, which are good by themselves."""

    pairs: tuple[Pair, ...] = ()
    labelled: tuple[Labelled, ...] = ()

    def __len__(self) -> int:
        return len(self.pairs) + len(self.labelled)

    @property
    def worlds(self) -> list[str]:
        """Names of their worlds, sorted; those of text are left out."""
        return sorted(({each.world for each in self.pairs} | {each.world for each in self.labelled}) - {""})

    @property
    def situations(self) -> list[str]:
        """Each once, in order of appearance."""
        every = [*(pair.situation for pair in self.pairs), *(each.situation for each in self.labelled)]
        return list(dict.fromkeys(every))

    def as_labels(self) -> list[Labelled]:
        """Every answer by itself: of a pair, the better one is good and the other bad."""
        of_pairs = [
            Labelled(pair.situation, answer, good, pair.world)
            for pair in self.pairs
            for answer, good in ((pair.better, True), (pair.worse, False))
        ]
        return [*of_pairs, *self.labelled]

    def of(self, situations: Iterable[str]) -> Examples:
        """Those of some situations."""
        wanted = set(situations)
        return Examples(
            tuple(each for each in self.pairs if each.situation in wanted),
            tuple(each for each in self.labelled if each.situation in wanted),
        )

    def first(self, count: int) -> Examples:
        """The first `count` of them, pairs before labels."""
        return Examples(self.pairs[:count], self.labelled[: max(0, count - len(self.pairs))])

    def split(self, held_out: float, seed: int = 0) -> tuple[Examples, Examples]:
        """(to train on, held out). Whole situations, about the share `held_out` of them, chosen by a hash.

        A situation stays on its side when others are added. Raises: `PreferenceError` if a side would be empty.
        """
        apart = [name for name in self.situations if _uniform(f"{seed}|{name}") < held_out]
        kept = [name for name in self.situations if name not in set(apart)]
        if not apart or not kept:
            raise PreferenceError(
                f"{len(self.situations)} situation(s) cannot be split with a held-out share of {held_out:g}: give "
                "examples of more situations, or another share"
            )
        return self.of(kept), self.of(apart)


def _uniform(text: str) -> float:
    """A number in [0, 1) from a hash."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") / 2**64


def checked(examples: Examples, where: str) -> Examples:
    """`examples`, if a model can learn from them. Raises: `PreferenceError` that names `where` and what is wrong."""
    if not len(examples):
        raise PreferenceError(f"{where}: no examples")
    for number, pair in enumerate(examples.pairs, 1):
        place = f"{where}, pair {number} (situation {pair.situation!r})"
        for name, answer in (("better", pair.better), ("worse", pair.worse)):
            _check_answer(answer, f"{place}, {name}")
        if pair.better == pair.worse:
            raise PreferenceError(f"{place}: both answers are the same, so that neither is better: leave it out")
    for number, each in enumerate(examples.labelled, 1):
        _check_answer(each.answer, f"{where}, label {number} (situation {each.situation!r})")
    if not examples.pairs and len({each.good for each in examples.labelled}) == 1:
        kind = "good" if examples.labelled[0].good else "bad"
        raise PreferenceError(f"{where}: all {len(examples)} answers are {kind}: give answers of both classes")
    return examples


def _check_answer(answer: Answer, place: str) -> None:
    if not any(m.role == "assistant" and m.content.strip() for m in answer):
        raise PreferenceError(f"{place}: the answer is empty: leave the example out")


# Files ----------------------------------------------------------------------------------------------------------------


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid")
    role: Literal["user", "assistant"]
    content: str


class _Line(BaseModel):
    """One line of a file: `better` and `worse`, or `answer` and `good`."""

    model_config = ConfigDict(extra="forbid")
    situation: str = Field("", max_length=10_000)
    prompt: str = ""
    world: str = Field("", max_length=200)
    better: str | list[_Message] | None = None
    worse: str | list[_Message] | None = None
    answer: str | list[_Message] | None = None
    good: bool | None = None
    margin: float = Field(0.0, ge=0, allow_inf_nan=False)


def read_jsonl(path: Path) -> Examples:
    """The examples in a file, one JSON object a line (docs/preference.md has the format).

    Raises: `PreferenceError` that names the file and the line.
    """
    pairs: list[Pair] = []
    labelled: list[Labelled] = []
    try:
        with path.open("rb") as file:
            for number, raw in enumerate(iter(lambda: file.readline(LINE_BYTES + 1), b""), 1):
                if raw.strip():
                    made = _example(raw, f"{path}, line {number}")
                    (pairs if isinstance(made, Pair) else labelled).append(made)  # type: ignore[arg-type]
    except OSError as error:
        raise PreferenceError(f"{path} cannot be read: {error.strerror or type(error).__name__}") from None
    return checked(Examples(tuple(pairs), tuple(labelled)), str(path))


def _example(raw: bytes, place: str) -> Pair | Labelled:
    if len(raw) > LINE_BYTES:
        raise PreferenceError(f"{place}: longer than {LINE_BYTES:,} bytes")
    try:
        line = _Line.model_validate(valid_tree(json.loads(raw)))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"][:1])) or "the line"
        raise PreferenceError(f"{place}: {key}: {first['msg']}") from None
    except (ValueError, RecursionError) as error:
        raise PreferenceError(f"{place}: no JSON in UTF-8 ({type(error).__name__})") from None
    situation = line.situation or line.prompt
    if not situation:
        raise PreferenceError(f"{place}: give a prompt, or the name of the situation: the held-out split goes by it")
    if line.better is not None and line.worse is not None and line.answer is line.good is None:
        better, worse = (_answer(each, line.prompt) for each in (line.better, line.worse))
        return Pair(situation, better, worse, line.world, line.margin)
    if line.answer is not None and line.good is not None and line.better is line.worse is None:
        return Labelled(situation, _answer(line.answer, line.prompt), line.good, line.world)
    raise PreferenceError(f"{place}: give `better` and `worse`, or `answer` and `good`")


def _answer(given: str | list[_Message], prompt: str) -> Answer:
    asked = (Message("user", prompt),) if prompt else ()
    if isinstance(given, str):
        return (*asked, Message("assistant", given))
    return (*asked, *(Message(m.role, m.content) for m in given))


def write_jsonl(path: Path, examples: Examples) -> None:
    """Write a file that `read_jsonl` reads to the same examples."""
    lines: list[dict[str, Any]] = [
        {
            "situation": pair.situation,
            **({"world": pair.world} if pair.world else {}),
            "better": _messages(pair.better),
            "worse": _messages(pair.worse),
            **({"margin": pair.margin} if pair.margin else {}),
        }
        for pair in examples.pairs
    ]
    lines += [
        {
            "situation": each.situation,
            **({"world": each.world} if each.world else {}),
            "answer": _messages(each.answer),
            "good": each.good,
        }
        for each in examples.labelled
    ]
    path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")


def _messages(answer: Answer) -> Sequence[dict[str, str]]:
    return [{"role": message.role, "content": message.content} for message in answer]
