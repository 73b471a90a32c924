"""What judging has cost, what has failed, and the limit at which it stops. Threads share one ledger."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from shaping.monitors.judging.judge import Judge, JudgeLimitError

BYTES_PER_TOKEN = 3
"""What a request is reckoned at before its answer tells: few tokenizers need a token for fewer bytes of text."""
PATIENCE = 3
"""Requests in a row that a judge may leave without any answer before the others are not even sent."""


@dataclass(frozen=True, slots=True)
class Reserved:
    """Tokens that a request may use, taken from the limit until its answer tells what it has used."""

    prompt: int
    answer: int


@dataclass(eq=False)
class Ledger:
    """Counts of one monitor in this process. It is no part of what the monitor is: all ledgers are equal."""

    episodes: int = 0
    """Episodes that were judged, known ones included."""
    requests: int = 0
    """Requests that were sent, repeated ones included."""
    cached: int = 0
    """Verdicts that were known already."""
    prompt_tokens: int = 0
    answer_tokens: int = 0
    cost: float = 0.0
    """In the unit of the judges' prices."""
    estimated: int = 0
    """Answers that did not tell what they had used, so that it was reckoned."""
    failures: Counter[str] = field(default_factory=Counter)
    """Kind of failure -> turns that got no verdict of a judge for it."""
    retried: Counter[str] = field(default_factory=Counter)
    """Kind of failure -> requests that were repeated for it."""
    silent: Counter[str] = field(default_factory=Counter)
    """Judge -> requests in a row without any answer."""
    _held: list[Reserved] = field(default_factory=list)
    _held_cost: float = 0.0
    _lock: Any = field(default_factory=threading.Lock, repr=False)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Ledger)

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> tuple[type[Ledger], tuple[()]]:
        return Ledger, ()  # a copy in another process counts for itself

    def reserve(self, judge: Judge, text: int, tokens: int | None, cost: float | None) -> Reserved:
        """Set aside what a request of `text` bytes may use, before it is sent.

        Raises: `JudgeLimitError` if that is more than the limits of tokens or cost leave.
        """
        held = Reserved(-(-text // BYTES_PER_TOKEN), judge.max_tokens)
        price = _price(judge, held.prompt, held.answer)
        with self._lock:
            used = self.prompt_tokens + self.answer_tokens + sum(h.prompt + h.answer for h in self._held)
            if tokens is not None and used + held.prompt + held.answer > tokens:
                raise JudgeLimitError(
                    f"the limit of {tokens} tokens leaves no room for another request after {self.requests} requests "
                    f"with {self.prompt_tokens + self.answer_tokens} tokens: raise token_limit, or judge fewer episodes"
                )
            if cost is not None and self.cost + self._held_cost + price > cost:
                raise JudgeLimitError(
                    f"the limit of cost {cost:g} leaves no room for another request after {self.requests} requests for "
                    f"{self.cost:g}: raise cost_limit, or judge fewer episodes"
                )
            self._held.append(held)
            self._held_cost += price
            self.requests += 1
        return held

    def settle(self, judge: Judge, held: Reserved, usage: tuple[int, int] | None, *, answered: bool) -> None:
        """Book what a request has used. `usage`: (prompt, answer) tokens as the endpoint tells; None: it does not."""
        with self._lock:
            self._held.remove(held)
            self._held_cost = max(0.0, self._held_cost - _price(judge, held.prompt, held.answer))
            if not answered:
                return
            self.estimated += usage is None
            prompt, answer = usage or (held.prompt, held.answer)
            self.prompt_tokens += prompt
            self.answer_tokens += answer
            self.cost += _price(judge, prompt, answer)

    def heard(self, judge: Judge, *, answered: bool) -> None:
        """Note whether a judge has given any answer to a task, right or wrong."""
        with self._lock:
            self.silent[str(judge)] = 0 if answered else self.silent[str(judge)] + 1

    def given_up(self, judge: Judge) -> bool:
        """Has a judge been silent too often in a row?"""
        with self._lock:
            return self.silent[str(judge)] >= PATIENCE

    def try_again(self) -> None:
        """Give judges that were given up one more request."""
        with self._lock:
            for judge, count in self.silent.items():
                self.silent[judge] = min(count, PATIENCE - 1)

    def count(self, where: Counter[str], kind: str, number: int = 1) -> None:
        """Add to `failures` or `retried`."""
        with self._lock:
            where[kind] += number

    def judged(self, episodes: int) -> None:
        """Count episodes."""
        with self._lock:
            self.episodes += episodes

    def known(self) -> None:
        """Count a verdict that was known already."""
        with self._lock:
            self.cached += 1

    def report(self) -> dict[str, Any]:
        """The counts as JSON values; `per_episode` is what one has cost on average, known ones included."""
        with self._lock:
            share = 1 / max(self.episodes, 1)
            tokens = self.prompt_tokens + self.answer_tokens
            return {
                **{"episodes": self.episodes, "per_episode": {"tokens": tokens * share, "cost": self.cost * share}},
                **{"requests": self.requests, "cached": self.cached, "prompt_tokens": self.prompt_tokens},
                **{"answer_tokens": self.answer_tokens, "cost": round(self.cost, 6), "estimated": self.estimated},
                **{"failures": dict(sorted(self.failures.items())), "retried": dict(sorted(self.retried.items()))},
            }


def _price(judge: Judge, prompt: int, answer: int) -> float:
    return (prompt * judge.price_in + answer * judge.price_out) / 1e6
