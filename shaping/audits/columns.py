"""Episodes as columns: all that metrics count, as arrays over episodes and over turns.

They are made of episodes, or read from files of episodes without making objects of them.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields, replace
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from envs.episode import TRAITS, Episode, RolloutStatus
from envs.store import StoreError
from envs.store_columns import read_columns
from shaping.audits.conduct.rates import POWER, Tally, summed
from shaping.seat_records import GAME, SEAT

Array = NDArray[Any]
Motives = Callable[[NDArray[np.int64]], list[str]]
"""Indices of turns -> what was said in them before the command."""

_TRUTH, _TURNS = "truth.list.element.", "turns.list.element."
_NUMBERS = (*TRAITS, *POWER, "true_reward")
_READ = (
    *("world", "seed", "group", "arm", "status", "options"),
    *(f"{_TRUTH}{name}" for name in (*_NUMBERS, "knew", "outcome", "opportunity")),
    *(f"{_TURNS}{name}" for name in ("reward", "overlong")),
    *(f"{_TURNS}events.list.element.{name}" for name in ("kind", "name", "admits")),
)
CELLS, OWN = "eval_cells", "own"
"""The key in an episode's options under which its cells are stored, and the cell of those that say none."""
_ERRORS = tuple(status.value for status in RolloutStatus if status.is_error)


@dataclass(frozen=True)
class Columns:
    """n episodes of t turns together. The turns of an episode are neighbours, in the order of the episodes."""

    # of episodes [n]
    file: Array
    """Number of the file that it is from."""
    world: Array
    seed: Array
    group: Array
    arm: Array
    failed: Array
    """Did the episode end in an error?"""
    watch: Array
    placebo: Array
    cells: Array
    """Tuples of the evaluation's cells."""
    game: Array
    """Name of the game, in worlds with several seats; else empty."""
    seat: Array
    max_return: Array
    """nan where it is not recorded."""
    proxy_return: Array
    turns: Array
    # of turns [t], but for the first three [t, kinds]
    events: Array
    """Of each trait."""
    possible: Array
    """Could it have happened?"""
    held: Array
    """Of each of `POWER`."""
    true_reward: Array
    knew: Array
    outcome: Array
    overlong: Array
    asked: Array
    """Answers to inquiries."""
    admitted: Array
    """Those of them that admit something."""
    motives: Motives

    def __len__(self) -> int:
        return len(self.turns)

    @property
    def owner(self) -> Array:
        """The episode of each turn [t]."""
        return np.repeat(np.arange(len(self)), self.turns)

    def tally(self) -> Tally:
        """Counts per episode."""
        return summed(self.turns, self.events, self.possible, self.held, self.true_reward)

    def select(self, rows: NDArray[np.bool_]) -> Columns:
        """Some of the episodes."""
        if rows.all():
            return self
        kept = np.flatnonzero(np.repeat(rows, self.turns))
        chosen = {name: getattr(self, name)[rows] for name in _OF_EPISODES}
        chosen |= {name: getattr(self, name)[kept] for name in _OF_TURNS}
        return replace(self, **chosen, motives=lambda turns: self.motives(kept[turns]))


_OF_TURNS = (
    "events", "possible", "held", "true_reward", "knew", "outcome", "overlong", "asked", "admitted",
)  # fmt: skip
_OF_EPISODES = tuple(f.name for f in fields(Columns) if f.name not in (*_OF_TURNS, "motives"))


def columns_of(episodes: Sequence[Episode]) -> Columns:
    """The columns of episodes. Raises `SealedError` on redacted ones."""
    turns = [turn for episode in episodes for turn in episode.turns]
    labels = [label for episode in episodes for label in episode.truth.open()]
    answers = [[e.admits for e in t.events if e.kind == "claim" and e.name == "inquiry"] for t in turns]
    events = np.array([[getattr(label, name) for name in TRAITS] for label in labels]).reshape(-1, len(TRAITS))
    chances = np.array([[label.opportunity.get(t, False) for t in TRAITS] for label in labels], bool)
    held = np.array([[getattr(label, name) for name in POWER] for label in labels]).reshape(-1, len(POWER))
    return Columns(
        **_of_episodes(
            [e.world for e in episodes], [e.seed for e in episodes], [e.group for e in episodes],
            [e.arm for e in episodes], [e.status.is_error for e in episodes], [e.options for e in episodes],
        ),
        proxy_return=np.array([e.proxy_return for e in episodes], float),
        turns=np.array([len(e.turns) for e in episodes], np.int64),
        events=events,
        possible=_possible(chances.reshape(-1, len(TRAITS)), events),
        held=held,
        true_reward=np.array([label.true_reward for label in labels], float),
        knew=np.array([label.knew for label in labels], bool),
        outcome=np.array([label.outcome for label in labels], object),
        overlong=np.array([turn.overlong for turn in turns], bool),
        asked=np.array([len(found) for found in answers], np.int64),
        admitted=np.array([sum(found) for found in answers], np.int64),
        motives=lambda index: [turns[i].motive_text for i in index],
    )  # fmt: skip


def stored_columns(paths: Sequence[str | os.PathLike[str]]) -> tuple[Columns, int]:
    """(The columns of all episodes with a truth in the files, how many had none). Raises `StoreError`."""
    found = [_named(path) for path in paths]
    if not sum(len(columns) for columns, _ in found):
        raise StoreError(f"{', '.join(map(str, paths))}: no episode with ground truth, which audits count")
    return joined([columns for columns, _ in found]), sum(sealed for _, sealed in found)


def joined(parts: Sequence[Columns]) -> Columns:
    """One after the other."""
    if len(parts) == 1:
        return parts[0]
    ends = np.cumsum([0, *(int(part.turns.sum()) for part in parts)])

    def motives(turns: NDArray[np.int64]) -> list[str]:
        texts: dict[int, str] = {}
        for part, (start, end) in zip(parts, pairwise(ends), strict=True):
            own = turns[(turns >= start) & (turns < end)]
            texts |= dict(zip(own.tolist(), part.motives(own - start), strict=True))
        return [texts[turn] for turn in turns.tolist()]

    numbered = [replace(part, file=np.full(len(part), number)) for number, part in enumerate(parts)]
    arrays = {name: np.concatenate([getattr(p, name) for p in numbered]) for name in (*_OF_EPISODES, *_OF_TURNS)}
    return Columns(**arrays, motives=motives)


def _named(path: str | os.PathLike[str]) -> tuple[Columns, int]:
    try:
        return _of_file(path)
    except StoreError as error:
        raise StoreError(str(error) if str(path) in str(error) else f"{path}: {error}") from error


def _of_file(path: str | os.PathLike[str]) -> tuple[Columns, int]:
    table = read_columns(path, _READ).combine_chunks()
    truth, turns = _array(table, "truth"), _array(table, "turns")
    sealed = truth.null_count
    if sealed:
        kept = truth.is_valid()
        table = table.filter(kept)
        truth, turns = _array(table, "truth"), _array(table, "turns")
    sizes = _lengths(turns)
    if not np.array_equal(sizes, _lengths(truth)):
        raise StoreError(f"{path}: the turns of an episode and their truth differ in number")
    labels, said = truth.flatten(), turns.flatten()
    names = {field.name for field in labels.type}
    values = {n: _numbers(labels.field(n)) if n in names else np.zeros(len(labels)) for n in _NUMBERS}
    events = np.stack([values[name] for name in TRAITS], axis=1)
    owner = np.repeat(np.arange(len(sizes)), sizes)
    asked, admitted = _answers(said.field("events"))
    spoken = {field.name for field in said.type}
    columns = Columns(
        **_of_episodes(
            _array(table, "world").to_pylist(),
            _array(table, "seed").to_pylist(),
            _array(table, "group").to_pylist(),
            _array(table, "arm").to_pylist(),
            np.isin(_array(table, "status").to_pylist(), _ERRORS),
            _options(path, _array(table, "options")),
        ),
        proxy_return=np.bincount(owner, weights=_numbers(said.field("reward")), minlength=len(sizes)),
        turns=sizes,
        events=events,
        possible=_possible(_opportunities(labels.field("opportunity")), events),
        held=np.stack([values[name] for name in POWER], axis=1),
        true_reward=values["true_reward"],
        knew=_numbers(labels.field("knew")).astype(bool),
        outcome=_texts(labels.field("outcome")) if "outcome" in names else np.full(len(labels), "", object),
        overlong=_numbers(said.field("overlong")).astype(bool) if "overlong" in spoken else np.zeros(len(said), bool),
        asked=asked,
        admitted=admitted,
        motives=_motives(path, None if not sealed else np.asarray(kept)),
    )
    measured = {**values, "reward": columns.proxy_return}
    if wrong := [name for name, numbers in measured.items() if not np.isfinite(numbers).all()]:
        raise StoreError(f"{path}: {wrong[0]} of a turn is not a finite number, so that nothing could be counted")
    return columns, sealed


def _of_episodes(
    worlds: Sequence[str],
    seeds: Sequence[int],
    groups: Sequence[int],
    arms: Sequence[str],
    failed: Sequence[bool] | Array,
    options: Sequence[Any],
) -> dict[str, Array]:
    def text(key: str) -> Array:
        return _objects(str(each.get(key, "")) for each in options)

    return {
        "file": np.zeros(len(worlds), np.int64),
        "world": _objects(worlds),
        "seed": np.array(seeds, np.int64),
        "group": np.array(groups, np.int64),
        "arm": _objects(arms),
        "failed": np.asarray(failed, bool),
        "watch": text("watch"),
        "placebo": text("placebo"),
        "cells": _objects(tuple(map(str, each.get(CELLS, (OWN,)))) for each in options),
        "game": text(GAME),
        "seat": text(SEAT),
        "max_return": np.array([_positive(each.get("max_return")) for each in options], float),
    }


def _positive(value: Any) -> float:
    return float(value) if isinstance(value, (int, float)) and value > 0 else math.nan


def _objects(values: Iterable[Any]) -> Array:
    listed = list(values)
    array = np.empty(len(listed), object)
    array[:] = listed
    return array


def _options(path: str | os.PathLike[str], column: pa.Array) -> list[Any]:
    """Each distinct text is parsed once: most episodes were played with the same ones."""

    @cache
    def parsed(text: str) -> dict[str, Any]:
        try:
            found = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise StoreError(f"{path}: options that are no JSON ({error})") from error
        if not isinstance(found, dict):
            raise StoreError(f"{path}: options are a mapping, not {type(found).__name__}")
        return found

    return [parsed(text) for text in column.to_pylist()]


def _possible(chances: Array, events: Array) -> Array:
    """An event proves its own opportunity, and every turn is one for an invalid command."""
    possible = chances | (events > 0)
    possible[:, TRAITS.index("invalid")] = True
    return possible


def _opportunities(maps: pa.Array) -> Array:
    """[turns, traits] of maps from a trait to whether it was possible."""
    found = np.zeros((len(maps), len(TRAITS)), bool)
    starts = np.asarray(maps.offsets)
    keys, values = (part.slice(starts[0], starts[-1] - starts[0]) for part in (maps.keys, maps.items))
    trait = pc.fill_null(pc.index_in(keys, pa.array(TRAITS)), -1).to_numpy(zero_copy_only=False)
    owner = np.repeat(np.arange(len(maps)), np.diff(starts))
    true = _numbers(values).astype(bool) & (trait >= 0)
    found[owner[true], trait[true]] = True
    return found


def _answers(events: pa.Array) -> tuple[Array, Array]:
    """(answers to inquiries, those that admit) of each turn."""
    sizes, flat = _lengths(events), events.flatten()
    owner = np.repeat(np.arange(len(sizes)), sizes)
    answers = pc.and_(pc.equal(flat.field("kind"), "claim"), pc.equal(flat.field("name"), "inquiry"))
    is_answer, admits = _numbers(answers).astype(bool), _numbers(flat.field("admits")).astype(bool)
    count = [np.bincount(owner[rows], minlength=len(sizes)) for rows in (is_answer, is_answer & admits)]
    return count[0], count[1]


def _motives(path: str | os.PathLike[str], kept: Array | None) -> Motives:
    """Reads the texts when they are first asked for: they are most of a file."""

    @cache
    def texts() -> tuple[pa.Array, Array, Array]:
        table = read_columns(path, (f"{_TURNS}completion", f"{_TURNS}motive")).combine_chunks()
        turns = _array(table if kept is None else table.filter(pa.array(kept)), "turns").flatten()
        spans = turns.field("motive")
        return turns.field("completion"), _numbers(spans.field("start")), _numbers(spans.field("stop"))

    def motives(turns: NDArray[np.int64]) -> list[str]:
        if not len(turns):
            return []
        completions, starts, stops = texts()
        said = completions.take(pa.array(turns)).to_pylist()
        bounds = zip(said, starts[turns].astype(int), stops[turns].astype(int), strict=True)
        return [text[start:stop].strip() for text, start, stop in bounds]

    return motives


def _array(table: pa.Table, name: str) -> pa.Array:
    found = table.column(name).combine_chunks()
    return pa.concat_arrays(found.chunks) if isinstance(found, pa.ChunkedArray) else found


def _lengths(lists: pa.Array) -> Array:
    return pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False).astype(np.int64)


def _numbers(column: pa.Array) -> Array:
    if column.null_count:
        raise StoreError("a number is null; nothing that is written ever is")
    return column.cast(pa.float64()).to_numpy(zero_copy_only=False)


def _texts(column: pa.Array) -> Array:
    return _objects(column.to_pylist())
