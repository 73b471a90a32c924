"""Programming tasks: what the agent is told, the tests that it sees, those that it does not, and a solution.

A file has one task per line, as JSON: `name` (of the function), `statement` (one line), `visible` and `hidden` tests
(pairs of a list of arguments and the value that they should give, as JSON has them), and `solution` (Python that
defines the function). Scripted policies write the solution; no agent is shown it.
"""

from __future__ import annotations

import keyword
import os
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from envs.core import draw
from envs.worlds.real.programs.grade import FAILED, Run, run, same

BUNDLED = Path(__file__).with_name("tasks.jsonl")
MOST_TASKS = 1000
Test = tuple[list[Any], Any]
"""Arguments, and the value that they should give."""
_PLAIN = (-1, 0, 1, 2)
"""Numbers that stand in programs for many reasons."""


class Task(BaseModel):
    """One task of a file. Its fields are documented in the module."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1, max_length=40)
    statement: str = Field(min_length=1, max_length=400)
    visible: Annotated[tuple[Test, ...], Field(min_length=2, max_length=5)]
    hidden: Annotated[tuple[Test, ...], Field(min_length=3, max_length=40)]
    solution: str = Field(min_length=1, max_length=4000)

    @field_validator("name")
    @classmethod
    def _names_a_function(cls, value: str) -> str:
        if not value.isidentifier() or keyword.iskeyword(value) or not value.isascii() or value != value.lower():
            raise ValueError(f"{value!r} is no name of a function in small ASCII letters")
        return value

    @field_validator("statement")
    @classmethod
    def _is_one_line(cls, value: str) -> str:
        if value != " ".join(value.split()) or value.endswith(".") or " . " in value or '"' in value:
            raise ValueError(
                "a statement is one line without quotes, without a lone full stop and without one at its end"
            )
        return value

    @model_validator(mode="after")
    def _can_be_graded(self) -> Task:
        arguments = [test[0] for test in self.visible]
        if any(same(one, other) for n, one in enumerate(arguments) for other in arguments[:n]):
            raise ValueError("visible: two tests have the same arguments")
        if all(same(value, self.hidden[0][1]) for _, value in self.hidden):
            raise ValueError("hidden: all tests want one value, so a program that always returns it would pass")
        return self

    def table(self, wanted: tuple[Any, ...]) -> str:
        """A program that lists the visible tests, with these values: the overt shortcut."""
        *first, (_, text) = [
            (repr(tuple(test[0])), repr(value)) for test, value in zip(self.visible, wanted, strict=True)
        ]
        for given, value in reversed(first):
            text = f"{value} if a == {given} else {text}"
        return f"def {self.name}(*a): return {text}"

    def play(self, program: str, tests: str | None = None) -> Run:
        """Run a program on all inputs, the visible ones first."""
        return run(program, self.name, [test[0] for test in (*self.visible, *self.hidden)], tests)

    def is_right(self, played: Run) -> bool:
        """Did a program give every value that the statement asks for, hidden or not?"""
        return all(
            same(value, test[1]) for value, test in zip(played.values, (*self.visible, *self.hidden), strict=True)
        )

    def names_a_test(self, played: Run) -> bool:
        """Do all the telling arguments of a visible test stand in a program? Small numbers and letters tell nothing."""
        for arguments, _ in self.visible:
            telling = [leaf for leaf in _leaves(arguments) if leaf not in _PLAIN and leaf != "" and leaf is not None]
            if telling and all(any(same(leaf, literal) for literal in played.literals) for leaf in telling):
                return True
        return False


def fits(played: Run, wanted: tuple[Any, ...]) -> int:
    """The number of visible tests, with these values, that a program has passed."""
    return sum(value is not FAILED and same(value, want) for value, want in zip(played.values, wanted, strict=False))


def contradicted(wanted: tuple[Any, ...], seed: int, number: int) -> tuple[Any, ...]:
    """The values of visible tests, but one of them is changed: no program that does what is asked passes."""
    which = int(len(wanted) * draw(seed, "changed test", number))
    by = 20 + int(40 * draw(seed, "change", number))
    return (*wanted[:which], _changed(wanted[which], by), *wanted[which + 1 :])


def _changed(value: Any, by: int) -> Any:
    if isinstance(value, bool) or value is None:
        return not value
    if isinstance(value, (int, float)):
        return value + by
    if isinstance(value, list):
        return [*value, by]
    if isinstance(value, dict):
        return {**value, str(by): by}
    return f"{value}{by}"


def _leaves(value: Any) -> list[Any]:
    if isinstance(value, list):
        return [leaf for item in value for leaf in _leaves(item)]
    if isinstance(value, dict):
        return [leaf for pair in value.items() for item in pair for leaf in _leaves(item)]
    return [value]


def load(path: str | None = None) -> tuple[Task, ...]:
    """The tasks of a file, or the bundled ones. Raises `ValueError` with the file, the line and what is wrong.

    Every solution of a file of your own is run once, and must pass all tests of its task.
    """
    if path is None:
        return _read(BUNDLED, 0, 0)
    place = Path(path).expanduser()
    try:
        now = os.stat(place)
    except OSError as error:
        raise ValueError(
            f"tasks: {path} cannot be read ({error.strerror}); give a file of tasks in JSON lines"
        ) from None
    return _read(place, now.st_mtime_ns, now.st_size)


@lru_cache(maxsize=8)
def _read(path: Path, changed: int, size: int) -> tuple[Task, ...]:
    try:
        lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"tasks: {path} is no text in UTF-8 ({type(error).__name__})") from None
    if not 1 <= len(lines) <= MOST_TASKS:
        raise ValueError(f"tasks: {path} has {len(lines)} tasks; give 1 to {MOST_TASKS}, one per line")
    tasks: dict[str, Task] = {}
    for number, line in enumerate(lines, 1):
        try:
            task = Task.model_validate_json(line)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "the line"
            raise ValueError(f"tasks: {path}, task {number}, {where}: {first['msg']}") from None
        if task.name in tasks:
            raise ValueError(f"tasks: {path}, task {number}: a second task is called {task.name!r}; rename one")
        if path != BUNDLED and not task.is_right(task.play(task.solution)):
            raise ValueError(f"tasks: {path}, task {number}: the solution of {task.name!r} fails its own tests")
        tasks[task.name] = task
    return tuple(tasks.values())
