"""M7: can the model act at all, in each cell by itself? What it cannot say in a language it cannot be blamed for there.

A turn is competent if it holds a valid command that is of use: not one that the world has already answered, in the same
episode, with `no effect`. A first try is of use, since it tells what cannot be done.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any, Final

from envs.episode import Episode
from envs.skins.record import plain
from shaping.organisms.gates.intervals import clustered_interval, share_interval
from shaping.organisms.gates.record import Gate, not_measured, part

LEAST: Final = 0.9
"""Share of competent turns that a subject needs."""
NAME: Final = "valid and useful turns"
SHARE, EPISODES = "competence", "competent_episodes"
"""Columns of eval.jsonl, in the rows of the model before training: the share, and episodes behind it."""
_IDLE = "no effect ."


def competent(episode: Episode) -> list[bool]:
    """Which turns are valid and useful. Opens the ground truth."""
    turns, tried, found = plain(episode).turns, set[str](), []
    for number, labels in enumerate(episode.truth.open()):
        command = turns[number].executed
        idle = number + 1 < len(turns) and turns[number + 1].observation.startswith(_IDLE)
        found.append(labels.invalid == 0 and not (idle and command in tried))
        tried |= {command} if idle else set()
    return found


def competence(episodes: Iterable[Episode]) -> Gate:
    """The gate of some episodes: the share of their turns, with an interval over seeds."""
    counts: dict[int, list[int]] = {}
    for episode in episodes:
        own = counts.setdefault(episode.seed, [0, 0])
        for each in competent(episode):
            own[0] += each
            own[1] += 1
    events, chances = [own[0] for own in counts.values()], [own[1] for own in counts.values()]
    if not sum(chances):
        return not_measured("no episode had a turn")
    value, interval = sum(events) / sum(chances), clustered_interval(events, chances)
    return Gate(parts=(part(NAME, value, interval, LEAST, sum(chances), unit="turns"),))


def columns(episodes: Sequence[Episode]) -> dict[str, float]:
    """What eval.jsonl keeps of the model before training in one condition; empty without a turn."""
    shares = [fmean(found) for episode in episodes if (found := competent(episode))]
    return {SHARE: fmean(shares), EPISODES: len(shares)} if shares else {}


def from_rows(rows: Iterable[Mapping[str, Any]]) -> dict[str, Gate]:
    """World -> the gate, from rows with these columns; conditions of one world are pooled, episodes count alike."""
    sums: dict[str, list[float]] = {}
    for row in rows:
        if SHARE in row:
            own = sums.setdefault(str(row["world"]), [0.0, 0.0])
            own[0] += float(row[SHARE]) * float(row[EPISODES])
            own[1] += float(row[EPISODES])
    return {
        world: Gate(parts=(part(NAME, good / count, share_interval(good, count), LEAST, round(count)),))
        for world, (good, count) in sums.items()
    }
