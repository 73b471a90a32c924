"""Several judges asked about many turns at once: caches, retries, limits, and what becomes of failures."""

from __future__ import annotations

import random
import secrets
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from shaping.monitors.judging.cache import VerdictCache, key_of
from shaping.monitors.judging.endpoint import EndpointError, body_of, client_of, complete
from shaping.monitors.judging.judge import Judge, JudgeLimitError
from shaping.monitors.judging.ledger import Ledger
from shaping.monitors.judging.local import local_model
from shaping.monitors.judging.question import Asked, messages
from shaping.monitors.judging.verdict import CANARY_BYTES, TurnVerdict, VerdictError, verdict_of

if TYPE_CHECKING:
    import httpx

_SILENT = ("unreachable", "slow")
_MOST_WAIT = 30.0


@dataclass(frozen=True, slots=True)
class Effort:
    """How hard to try."""

    attempts: int = 4
    """Requests about the same turns until a verdict is there."""
    backoff: float = 0.5
    """Seconds before the second attempt; each further one waits twice as long, at most 30 s."""
    concurrency: int = 4
    """Requests under way at once, over all judges."""
    tokens: int | None = None
    """Tokens of questions and answers in all; None: no limit."""
    cost: float | None = None
    """Cost in all, in the unit of the judges' prices; None: no limit."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one task."""

    turns: dict[int, TurnVerdict]
    """The verdict; empty if there is none."""
    kind: str = ""
    """Why there is none, in a word."""
    why: str = ""
    """Why there is none."""


@dataclass
class Panel:
    """Judges with their questions. `ask` may be called from any thread."""

    judges: Sequence[tuple[Judge, str]]
    """Every judge with its question."""
    effort: Effort
    folder: Path | None
    """Folder of the cache; None: in memory only."""
    ledger: Ledger
    cache: VerdictCache
    _random: random.Random = field(default_factory=random.SystemRandom)

    def ask(self, tasks: Sequence[tuple[int, Asked]]) -> list[Outcome]:
        """The outcome of each task (number of the judge, turns), in their order. No failure of one ends the others.

        Raises: `JudgeError` before anything is sent, if the key of a judge is not in the environment.
        """
        keys = [judge.key() for judge, _ in self.judges]
        self.ledger.try_again()
        clients = [None if judge.embedded else client_of(judge, self.effort.concurrency) for judge, _ in self.judges]
        try:
            with ThreadPoolExecutor(self.effort.concurrency, "judge") as pool:
                found = list(pool.map(lambda task: self._outcome(task, clients[task[0]], keys[task[0]]), tasks))
        finally:
            for client in filter(None, clients):
                client.close()
        for (_, asked), outcome in zip(tasks, found, strict=True):
            if outcome.kind:
                self.ledger.count(self.ledger.failures, outcome.kind, len(asked.turns))
        return found

    def _outcome(self, task: tuple[int, Asked], client: httpx.Client | None, key: str) -> Outcome:
        (judge, question), asked = self.judges[task[0]], task[1]
        name = key_of(judge, question, asked)
        if (known := self.cache.get(self.folder, name, asked)) is not None:
            self.ledger.known()
            return Outcome(known)
        if self.ledger.given_up(judge):
            return Outcome({}, "given_up", f"{judge} has not answered several times in a row, and is not asked again")
        try:
            verdict = self._verdict(judge, question, asked, client, key)
        except JudgeLimitError as error:
            return Outcome({}, "limit", str(error))
        except (EndpointError, VerdictError) as error:
            self.ledger.heard(judge, answered=error.kind not in _SILENT)
            return Outcome({}, error.kind, f"{judge}: {error}")
        self.ledger.heard(judge, answered=True)
        self.cache.put(self.folder, name, verdict)
        return Outcome(verdict)

    def _verdict(
        self, judge: Judge, question: str, asked: Asked, client: httpx.Client | None, key: str
    ) -> dict[int, TurnVerdict]:
        """Ask until there is a verdict. Every attempt has a marker and a canary of its own."""
        for attempt in range(self.effort.attempts):
            nonce, canary = _unlike(asked.data), _unlike(asked.data)
            told = messages(question, asked, canary, nonce)
            try:
                return verdict_of(self._said(judge, told, asked, client, key), canary, asked.turns)
            except (EndpointError, VerdictError) as error:
                last = attempt == self.effort.attempts - 1
                if last or (isinstance(error, EndpointError) and not error.again):
                    raise
                self.ledger.count(self.ledger.retried, error.kind)
                wait = self.effort.backoff * 2**attempt * self._random.uniform(0.5, 1.0)
                wished = getattr(error, "wait", None)
                time.sleep(min(wait, _MOST_WAIT) if wished is None else wished)
        raise AssertionError("there is at least one attempt")

    def _said(
        self, judge: Judge, told: list[dict[str, str]], asked: Asked, client: httpx.Client | None, key: str
    ) -> str:
        body = body_of(judge, told, asked.turns)
        held = self.ledger.reserve(judge, len(body), self.effort.tokens, self.effort.cost)
        try:
            answer = (
                local_model(judge.model).answer(judge, told) if client is None else complete(client, judge, key, body)
            )
        except BaseException:
            self.ledger.settle(judge, held, None, answered=False)
            raise
        self.ledger.settle(judge, held, answer.usage, answered=True)
        return answer.text


def _unlike(data: str) -> str:
    """Random digits that do not stand in the data."""
    while (drawn := secrets.token_hex(CANARY_BYTES)) in data:
        pass
    return drawn
