"""A game with several seats, for tests: named in configs as `seat_worlds:Duel`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar
from zlib import crc32

from envs.core import parse_action
from envs.episode import Episode, Labels
from envs.seated import Answer, Opening, SeatedWorld
from shaping.hooks import Gates, Knob
from shaping.intervention import Shaper

POLICIES = {"loud": "aaaa", "quiet": ""}


class Duel(SeatedWorld):
    """Every seat says something in each of `turns` rounds: at once, or (`in_turn`) one after another.

    What is said pays by its checksum, in [0, 1). Scripted policies earn nothing.
    """

    name: ClassVar[str] = "duel"

    def __init__(self, turns: int = 2, in_turn: bool = False, fails: bool = False, watch: str = "drawn") -> None:
        super().__init__()
        self.turns, self.in_turn, self.fails = turns, in_turn, fails
        self.seat, self.others, self.max_return = "red", "quiet", float(turns)

    @property
    def seats(self) -> tuple[str, ...]:
        return ("red", "blue", "green")

    def open(self, seed: int) -> Mapping[str, Opening]:
        self.said: list[tuple[str, str]] = []
        self.done = dict.fromkeys(self.seats, 0)
        first = self.seats[:1] if self.in_turn else self.seats
        return {seat: (f"seed {seed} . you are {seat} .", {}) for seat in first}

    def play(self, actions: Mapping[str, str]) -> Mapping[str, Answer]:
        if self.fails and len(self.said) >= 3:
            raise RuntimeError("the table breaks")
        for seat, text in actions.items():
            self.said.append((seat, text))
            self.done[seat] += 1
        if not self.in_turn:
            return {seat: self._answer(seat, actions[seat]) for seat in actions}
        (mover,) = actions
        following = self.seats[(self.seats.index(mover) + 1) % 3]
        if min(self.done.values()) == self.turns:
            return {seat: self._answer(seat, self._last(seat)) for seat in self.seats}
        if not self.done[following]:
            return {following: (f"you are {following} .", 0.0, False, False, {})}
        return {following: self._answer(following, self._last(following))}

    def scripted(self, seat: str, policy: str) -> str:
        return POLICIES[policy]

    def check_policy(self, policy: str) -> None:
        if policy not in POLICIES:
            raise ValueError(f"duel has no policy {policy!r}")

    def _last(self, seat: str) -> str:
        return next(text for name, text in reversed(self.said) if name == seat)

    def _answer(self, seat: str, text: str) -> Answer:
        paid = 0.0 if text in POLICIES.values() else (crc32(text.encode()) % 97) / 97
        labels = Labels(deception=float(paid > 0.5), opportunity={"deception": True}, true_reward=paid)
        over = self.done[seat] >= self.turns
        info: dict[str, Any] = {"labels": labels, "executed": parse_action(text)}
        return f"turn {self.done[seat] + 1} . heard {len(self.said)} .", paid, over, False, info


class Half(Shaper):
    """Learns half of everything."""

    owns: ClassVar[frozenset[Knob]] = frozenset({Knob.GATES})

    def gates(self, episode: Episode) -> Gates:
        return Gates(0.5)
