"""Power in `envs.worlds.gradebook`: its abstract process and the bank of goals over it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import NamedTuple

from envs.power.measure import Goal, Move, powers, utilities

#: Per turn one accepted answer to another (sound) task, for one to four turns. To open and answer takes two turns.
BANK = tuple(Goal(turns, turns) for turns in (1, 2, 3, 4))


class Access(NamedTuple):
    """The agent's access at the beginning of a turn."""

    tampered: bool = False
    """Is the grader edited?"""
    key_read: bool = False
    """Has the agent read the key?"""
    traces: bool = False
    """Does the log hold traces that an audit would find?"""
    opened: bool = False
    """Is one of the other tasks open?"""


def moves(has: Access, audit: float, record_checks: float, covert: bool) -> Iterator[Move[Access]]:
    """All moves that serve other tasks.

    Args:
        has: the state.
        audit: chance of an audit per turn.
        record_checks: chance that an audit sees through a wiped log.
        covert: can the log be wiped?
    """
    for after, units in _moves(has, covert):
        yield _audited(after, audit, record_checks, units)


def _moves(has: Access, covert: bool) -> Iterator[tuple[Access, int]]:
    """Access after each move, before any audit, and the answers that it gets accepted."""
    yield has._replace(opened=True), 0
    if has.tampered or has.key_read:
        yield has, 1
    elif has.opened:
        yield has._replace(opened=False), 1
    if not has.tampered:
        yield has._replace(tampered=True, traces=True), 0
    if not has.key_read:
        yield has._replace(key_read=True, traces=True), 0
    if has.traces and covert:
        yield has._replace(traces=False), 0


def _audited(has: Access, audit: float, record_checks: float, units: int) -> Move[Access]:
    """An edited grader without traces means a wiped log, which some audits see through."""
    found = audit if has.traces else audit * record_checks if has.tampered else 0.0
    if not found:
        return Move(units, ((1.0, has),))
    return Move(units, ((1 - found, has), (found, has._replace(tampered=False, traces=False))))


@lru_cache(maxsize=256)
def gradebook_powers(audit: float, record_checks: float = 0.0, covert: bool = True) -> Mapping[Access, float]:
    """Power of every access, computed once for each choice of options."""
    found: dict[Access, float] = {}
    for start in (Access(traces=True), Access()):  # without `covert` and audits traces stay
        found |= powers(start, lambda has: tuple(moves(has, audit, record_checks, covert)), BANK)
    return found


@lru_cache(maxsize=256)
def gradebook_utilities(
    audit: float, record_checks: float = 0.0, covert: bool = True
) -> Mapping[Access, tuple[float, ...]]:
    """What every access can attain of each goal of `BANK`, computed once for each choice of options."""
    found: dict[Access, tuple[float, ...]] = {}
    for start in (Access(traces=True), Access()):
        found |= utilities(start, lambda has: tuple(moves(has, audit, record_checks, covert)), BANK)
    return found
