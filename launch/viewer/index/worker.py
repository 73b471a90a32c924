"""The process that alone opens episode files: `python -m launch.viewer.index.worker`, JSON lines in and out.

A crafted file can crash the library that reads it, or unpack to anything. Here either costs this process, whose memory
is limited and which holds nothing but what it has read. While nobody asks, it fills the tables that lists will need.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import resource
import select
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from envs.episode import Episode
from envs.escaping import on_one_line
from envs.store import StoreError, read_episodes
from launch.storage.documents import dumps
from launch.viewer.index.filters import PAGE, Filters
from launch.viewer.index.schema import STORED
from launch.viewer.index.tables import FILLED_BY, EpisodeIndex
from launch.viewer.sources import EpisodeFile

if TYPE_CHECKING:
    from shaping.monitors.base import Monitor

MEMORY = 6_000_000_000
"""Bytes of address space beyond those after the imports; DuckDB keeps within 2 GB of it."""
QUIET = 0.3
"""Seconds without a question after which it works ahead."""
AT_ONCE = 150
"""Files that are opened before the first answer: the first page of a large study does not wait for the others."""
STEP = 50
"""Files whose columns it reads ahead at a time: whoever asks meanwhile waits for that."""
MAX_PAGE = 5000
RESULT, MAX_RESULT = "result.json", 16 << 20
"""The file of a finished run that names its spent monitors, and the largest one that is read, in bytes."""


class Worker:
    """Answers questions about the episodes of some files."""

    def __init__(self, files: Sequence[EpisodeFile], monitors: Sequence[str]) -> None:
        self.index = EpisodeIndex(files)
        self.index.open(AT_ONCE)
        self._monitors = monitors
        self._read = 0
        self._recorded: dict[str, tuple[dict[tuple[str, str], None], list[int]]] = {}
        """Run -> (monitor, trait) of its records, and its files with records."""
        self.ahead = self._work_ahead()

    def answer(self, question: dict[str, Any]) -> Any:
        """The answer to one question. Raises `KeyError` for an episode that is none."""
        match question.get("ask"):
            case "about":
                return self._about()
            case "page":
                filters = Filters.model_validate(question["filters"])
                size = min(int(question.get("size", PAGE)), MAX_PAGE)
                if filters.chosen:  # the plain first page shows what is known
                    self.index.open()
                return self.index.page(filters, size) | {"about": self._about()}
            case "episode":
                return self._episode(int(question["id"]))
            case "read":  # one file at a time, so that each answer comes soon
                return next(self.ahead, "end") is None
        raise ValueError(f"unknown question {question.get('ask')!r:.80}")

    def _about(self) -> dict[str, Any]:
        return {
            "episodes": len(self.index),
            "files": len(self.index.files),
            "files_opened": self.index.opened,
            "files_read": self._read,
            "facets": self._facets(self.index.opened),
            "monitors": self.index.monitors(),
            "problems": self.index.problems[:50],
            "more_problems": max(len(self.index.problems) - 50, 0),
        }

    @functools.cache  # noqa: B019  one worker per process
    def _facets(self, opened: int) -> dict[str, list[Any]]:
        return self.index.facets()

    def _episode(self, number: int) -> dict[str, Any]:
        from launch.viewer.index.detail import detail

        self.index.open()
        file, row, episode = self._of(number)
        place = self.index.files.index(file)
        self._take_up(place)
        found = detail(file, row, episode, self.index.readings(number), _tokenizer(file))
        total = len(self.index)
        return {
            **found,
            "id": number,
            "summary": self.index.rows([number])[0],
            "asked": self.index.asked(place),
            "spent": _spent(file),
            "before": number - 1 if number else None,
            "after": number + 1 if number + 1 < total else None,
            "partners": self.index.partners(number),
            "monitors": self.index.monitors(),
        }

    def _of(self, number: int) -> tuple[EpisodeFile, int, Episode]:
        file, row = self.index.place(number)
        episodes = _episodes(file.path)
        if row >= len(episodes):
            raise StoreError(f"{file.arm}/{file.name} has changed since it was opened; start the viewer again")
        return file, row, episodes[row]

    def _work_ahead(self) -> Iterator[None]:
        """One step per `next`: all files, then tables, then what monitors say, evaluations and late updates first."""
        while self.index.open(STEP):
            yield
        for table in FILLED_BY:
            while self.index.fill(table, STEP):
                yield
        files = self.index.files
        later = sorted(range(len(files)), key=lambda n: (files[n].update is not None, -(files[n].update or 0), n))
        for place in later:
            try:
                self._take_up(place)
            except Exception as error:  # whatever a crafted file makes of the libraries; the others stand
                self._note(f"{files[place].arm}/{files[place].name}: {type(error).__name__}: {error}")
            yield

    def _take_up(self, place: int) -> None:
        """Take up what monitors say of a file, once."""
        from launch.viewer.index.readings import has_records, readings_of

        if place in self._taken:
            return
        self._taken.add(place)
        self._read += 1
        file, first = self.index.files[place], self.index.first(place)
        if first is None:
            return
        try:
            episodes = _episodes(file.path)
        except (StoreError, OSError, MemoryError) as error:
            self._note(f"{file.arm}/{file.name}: {error}")
            return
        found, problems = readings_of(file, episodes, self._chosen)
        for monitor, (source, traits, said) in found.items():
            self.index.add_said(monitor, [(first + row, *rest) for row, *rest in said])
            if source != STORED:
                self.index.add_reads([(place, monitor, trait, source) for trait in traits])
        if has_records(file):
            stored = {monitor: traits for monitor, (source, traits, _) in found.items() if source == STORED}
            self._take_up_records(place, [(monitor, trait) for monitor, traits in stored.items() for trait in traits])
        for problem in problems:
            self._note(problem)

    def _take_up_records(self, place: int, suspected: Sequence[tuple[str, str]]) -> None:
        """Records name the turns that a monitor suspects. It has read the run's other files with records, too."""
        pairs, places = self._recorded.setdefault(str(self.index.files[place].run), ({}, []))
        new = [pair for pair in suspected if pair not in pairs]
        self.index.add_reads([(earlier, *pair, STORED) for earlier in places for pair in new])
        pairs |= dict.fromkeys(new)
        places.append(place)
        self.index.add_reads([(place, *pair, STORED) for pair in pairs])

    @functools.cached_property
    def _chosen(self) -> Sequence[Monitor] | None:
        from launch.viewer.index.readings import named_monitors

        return named_monitors(self._monitors)

    @functools.cached_property
    def _taken(self) -> set[int]:
        return set()

    def _note(self, problem: str) -> None:
        self.index.problems.append(on_one_line(problem, 400))


@functools.lru_cache(maxsize=4)
def _episodes(path: str) -> list[Episode]:
    return read_episodes(path)


@functools.lru_cache(maxsize=8)
def _tokenizer(file: EpisodeFile) -> Any:
    from launch.viewer.index.detail import tokenizer_of

    return tokenizer_of(file)


@functools.lru_cache(maxsize=64)
def _spent(file: EpisodeFile) -> list[str]:
    """Names of the monitors that the run was trained against."""
    path = file.run / RESULT
    try:
        usable = path.is_file() and path.stat().st_size <= MAX_RESULT  # opening a pipe would wait for somebody
        document = json.loads(path.read_text("utf-8")) if usable else {}
    except (OSError, ValueError, RecursionError):
        return []
    names = document.get("spent_monitors") if isinstance(document, dict) else None
    return [str(name)[:200] for name in names[:50]] if isinstance(names, list) else []


def serve(questions: int, answers: int) -> None:
    """Answer the lines of one descriptor on another, until the first ends. The first line names the files."""
    lines = _lines(questions)
    start = json.loads(next(lines))
    worker = Worker([EpisodeFile(**file) for file in start["files"]], start["monitors"])
    _send(answers, {"answer": worker.answer({"ask": "about"})})
    working = True
    while True:
        while working and not select.select([questions], [], [], QUIET)[0]:
            working = next(worker.ahead, "end") is None
        try:
            line = next(lines)
        except StopIteration:
            return
        _send(answers, _answered(worker, json.loads(line)))


def _answered(worker: Worker, question: dict[str, Any]) -> dict[str, Any]:
    try:
        return {"answer": worker.answer(question)}
    except KeyError as error:
        return {"error": f"there is no episode {error}", "absent": True}
    except ValidationError as error:
        return {"error": f"{error.errors()[0]['loc'][0]}: {error.errors()[0]['msg']}", "absent": True}
    except (StoreError, OSError, ValueError, MemoryError) as error:
        return {"error": str(error) or "there is not enough memory for it"}
    except Exception as error:  # whatever a crafted file makes of the libraries
        return {"error": f"{type(error).__name__}: {error}"}


def _lines(descriptor: int) -> Iterator[bytes]:
    """Lines of a descriptor. Nothing is read ahead, so that `select` tells whether another one waits."""
    kept = b""
    while True:
        line, found, kept_after = kept.partition(b"\n")
        if found:
            kept = kept_after
            yield line
            continue
        read = os.read(descriptor, 1 << 16)
        if not read:
            return
        kept += read


def _send(descriptor: int, message: dict[str, Any]) -> None:
    data = dumps(message, compact=True).encode() + b"\n"
    while data:
        data = data[os.write(descriptor, data) :]


def main() -> None:
    """Limit the memory; keep stdout for answers, whatever libraries and monitors print."""
    answers = os.dup(1)
    os.dup2(2, 1)
    with contextlib.suppress(OSError, ValueError):  # systems without /proc, or without such limits
        used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))
    serve(0, answers)


if __name__ == "__main__":
    main()
