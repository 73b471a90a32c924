"""Worlds with several seats: who has to act, and what each seat is told.

`SeatedWorld` is the contract. The sampler (`shaping.sampling.table`) plays all seats of an episode together through
`open` and `play`. The same class is an ordinary `TextEnv`, too: what one seat sees while scripted policies sit on the
others. Evaluations, audits and `envs.check` use it so.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any

from envs.answers import WorldContractError
from envs.core import TextEnv

Opening = tuple[str, Mapping[str, Any]]
"""(observation, info), as `reset` of a `TextEnv` returns it."""
Answer = tuple[str, float, bool, bool, Mapping[str, Any]]
"""What `step` of a `TextEnv` returns."""


class SeatedWorld(TextEnv):
    """A world in which several seats act, at once or in turn.

    A seat is *due* when the world waits for its action. `open` says which seats are due first and what they see; `play`
    takes the actions of all seats that are due and returns the answers to those that can be given now. A seat whose
    answer ends its episode acts no more; any other seat that is answered is due. In a game of turns a seat's answer
    comes when it is to move again, with all that it has earned meanwhile. The first answer of a seat that `open` has
    not named is its opening: its reward belongs to no action and must be 0.

    Every `info` is as in `TextEnv`, with the labels of the seat's own last action.
    """

    seat: str
    """The seat that `reset` and `step` play."""
    others: str
    """The scripted policy of all other seats in `reset` and `step`."""

    def __init__(self) -> None:
        super().__init__()
        self._due: set[str] = set()

    @property
    @abstractmethod
    def seats(self) -> tuple[str, ...]:
        """Names of all seats, in their order."""

    @abstractmethod
    def open(self, seed: int) -> Mapping[str, Opening]:
        """Start the episode that `seed` names."""

    @abstractmethod
    def play(self, actions: Mapping[str, str]) -> Mapping[str, Answer]:
        """Take the actions of all seats that are due. An empty action is none."""

    @abstractmethod
    def scripted(self, seat: str, policy: str) -> str:
        """What a scripted policy does on a seat that is due. Raises `ValueError` for one that does not exist."""

    def check_policy(self, policy: str) -> None:
        """Raise `ValueError` unless `scripted` knows this policy."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        super().reset(seed=seed)
        if options:
            raise ValueError(f"world {self.name!r} takes its options in the constructor, not in reset: {options}")
        opened = self.open(int(self.np_random.integers(2**31)) if seed is None else int(seed))
        self._due = set(opened)
        if self.seat in opened:
            observation, info = opened[self.seat]
        else:
            observation, _, ended, cut, info = self._until_answered({})
            if ended or cut:
                raise WorldContractError(f"world {self.name!r}: the episode ended before seat {self.seat!r} could act")
        return observation, dict(info)

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        if not isinstance(action, str):
            raise TypeError(f"world {self.name!r}: an action is text, got {type(action).__name__}")
        observation, reward, ended, cut, info = self._until_answered({self.seat: action})
        return observation, reward, ended, cut, dict(info)

    def _until_answered(self, own: Mapping[str, str]) -> Answer:
        """The answer to the own seat; the others do meanwhile what their policy says."""
        while True:
            if not self._due:
                raise RuntimeError(f"world {self.name!r}: the episode is over; call reset() before step()")
            theirs = {name: self.scripted(name, self.others) for name in self.seats if name in self._due - {self.seat}}
            answers = self.play({**theirs, **own})
            self._due = still_due(self._due - theirs.keys() - own.keys(), answers)
            if self.seat in answers:
                return answers[self.seat]
            own = {}


def still_due(waiting: Iterable[str], answers: Mapping[str, Answer]) -> set[str]:
    """The seats that are due after these answers, with those that were due before and have not acted."""
    return {*waiting} | {name for name, answer in answers.items() if not (answer[2] or answer[3])}
