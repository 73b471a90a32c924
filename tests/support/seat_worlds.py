"""A game with several seats, for tests: named in configs as `seat_worlds:Duel`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar
from zlib import crc32

import numpy as np
from pydantic import PrivateAttr

from envs.core import parse_action
from envs.episode import Context, Episode, Labels
from envs.seated import Answer, Opening, SeatedWorld
from shaping.hooks import Capture, Credit, Gates, Group, GroupInfo, Knob, Prefill, Rehearsal, UpdateReport
from shaping.intervention import Constraint, Shaper
from shaping.seat_records import seat_of

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


class Watching(Constraint):
    """Screens the first member of every group out, and remembers what it is told of the others."""

    _seen: dict[str, Any] = PrivateAttr(default_factory=dict)

    def screen(self, group: Group) -> Any:
        return np.arange(len(group.episodes)) > 0

    def captures(self) -> Sequence[Capture]:
        return [Capture("read", (0,)), Capture("said", (0,), phase="sampling")]

    def readings(self, episode: Episode) -> Mapping[str, Any]:
        return {"of_blue": np.full(len(episode.turns), seat_of(episode) == "blue", np.int64)}

    def credit(self, group: Group) -> Credit:
        return Credit("more", advantage=tuple(np.full(len(e.tokens), 0.5, np.float32) for e in group.episodes))

    def after_update(self, report: UpdateReport) -> None:
        episodes = [(n, e) for group in report.groups for n, e in enumerate(group.episodes)]
        read = sorted({number for number, _ in report.activations["read"].turns})
        self._seen |= {
            "updates": [*self._seen.get("updates", ()), report.update],
            "seats": sorted({seat_of(e) for _, e in episodes}),
            "sampled": sum("said" in e.activations for _, e in episodes) == len(episodes),
            "read": read == [number for number, (member, _) in enumerate(episodes) if member > 0],
        }

    def state_dict(self) -> Mapping[str, Any]:
        return dict(self._seen)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._seen = dict(state)


class Looking(Shaper):
    """Opens completions, rehearses what was said, and remembers with which adapters the policy was looked at."""

    owns: ClassVar[frozenset[Knob]] = frozenset({Knob.PREFILL})

    _seen: dict[str, Any] = PrivateAttr(default_factory=dict)

    def prefill(self, info: GroupInfo, members: int, rng: np.random.Generator) -> Any:
        return [Prefill(f"number {member} .", loss="in") for member in range(members)]

    def refresh(self, policy: Any, version: int) -> Mapping[str, float]:
        with policy.phase("sampling"):
            self._seen["adapters"] = list(policy.adapters.active)
        return {"version": float(version)}

    def rehearse(self, episodes: Sequence[Episode]) -> Sequence[Rehearsal]:
        asked = [*self._seen.get("rehearsed", ()), sorted({seat_of(e) for e in episodes})]
        self._seen["rehearsed"] = asked
        return [Rehearsal.of(episode, Context("be calm ."), 0.1) for episode in episodes]

    def after_update(self, report: UpdateReport) -> None:
        opened = [seat_of(e) for group in report.groups for e in group.episodes if e.forced_tokens.any()]
        self._seen["opened"] = sorted(set(opened))

    def state_dict(self) -> Mapping[str, Any]:
        return dict(self._seen)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._seen = dict(state)
