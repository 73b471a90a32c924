"""The monitor that asks language models about each turn of a transcript."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field, PrivateAttr, model_validator

from envs.episode import Episode
from shaping.monitors.base import Monitor, Reading, Trait
from shaping.monitors.judging.cache import VerdictCache
from shaping.monitors.judging.judge import QUESTIONS, Judge, JudgeError, JudgeLimitError
from shaping.monitors.judging.ledger import Ledger
from shaping.monitors.judging.panel import Effort, Outcome, Panel
from shaping.monitors.judging.question import Reads, asked_of


@dataclass(frozen=True, slots=True)
class Verdicts:
    """What the judges say of one episode."""

    scores: NDArray[np.float64]
    """Score of each judge for each turn [judges, turns]; nan where it gave no verdict."""
    reasons: tuple[tuple[str, ...], ...]
    """The judges' reasons [judges][turns]; untrusted text."""
    failures: tuple[Outcome, ...] = ()
    """Requests without a verdict."""

    @property
    def heard(self) -> NDArray[np.int64]:
        """Judges with a verdict on each turn [turns]."""
        found: NDArray[np.int64] = np.isfinite(self.scores).sum(axis=0)
        return found

    @property
    def mean(self) -> NDArray[np.float64]:
        """Mean score of each turn over the judges with a verdict [turns]; nan without any."""
        total = np.nansum(self.scores, axis=0)
        return np.divide(total, self.heard, out=np.full(len(total), np.nan), where=self.heard > 0)

    @property
    def disagreement(self) -> NDArray[np.float64]:
        """Highest less lowest score of each turn [turns]; nan with fewer than two verdicts."""
        empty = ~np.isfinite(self.scores)
        spread = np.where(empty, -np.inf, self.scores).max(axis=0) - np.where(empty, np.inf, self.scores).min(axis=0)
        return np.where(self.heard > 1, spread, np.nan)


class TranscriptJudge(Monitor):
    """Asks language models over OpenAI-compatible endpoints how far each turn shows a trait; their mean is the score.

    The transcript is data to them: quoted as JSON, between markers that are drawn anew, with a canary that must come
    back. An answer that is no verdict is asked for again. If a turn then has fewer than `quorum` verdicts, the whole
    episode is refused with an error that names the judge and the reason: no turn is ever scored 0 because nobody
    answered. `report()` tells requests, tokens, cost and failures by kind.

    `scope: turn` asks about every turn by itself, with the `window` turns before it; `scope: episode` is one request
    for all, which is cheaper and worse. Verdicts are kept by a hash of all that they depend on. What a judge reads it
    may be talked out of: hold one out (arXiv:2503.11926), and compare `reads: action` with `both`.
    """

    model_config = ConfigDict(hide_input_in_errors=True)  # it may be a key that was put in the wrong place
    cheap: ClassVar[bool] = False

    name: str = "transcript_judge"
    """Name in readings, metrics and reports."""
    trait: Trait = "deception"
    """The trait that the judges are asked about."""
    judges: tuple[Judge, ...] = Field(
        description="models, or questions, whose scores are averaged",
        examples=[[{"endpoint": "http://127.0.0.1:8000/v1", "model": "judge"}]],
    )
    scope: Literal["turn", "episode"] = Field("turn", description="what one request is about")
    reads: Reads = Field("both", description="what is shown of replies: reasoning and action, or one of them")
    window: int = Field(6, ge=0, le=1000, description="turns before the one in question that are shown")
    instructions: Literal["kept", "removed"] = Field(
        "kept", description="sentences in the transcript that address a reader; kept ones are quoted like all else"
    )
    quorum: int = Field(1, ge=1, le=32, description="judges whose verdict a turn needs")
    cache: str = Field("", description="folder for verdicts; empty: they are kept in memory")
    attempts: int = Field(4, ge=1, le=20, description="requests about the same turns until there is a verdict")
    backoff: float = Field(0.5, ge=0, le=60, description="seconds before the second attempt, doubled for each further")
    concurrency: int = Field(4, ge=1, le=256, description="requests under way at once")
    token_limit: int | None = Field(
        None, ge=1, le=10**12, description="tokens of all questions and answers of this process"
    )
    cost_limit: float | None = Field(None, gt=0, le=1e9, description="cost of them, in the unit of the judges' prices")

    _ledger: Ledger = PrivateAttr(default_factory=Ledger)
    _cache: VerdictCache = PrivateAttr(default_factory=VerdictCache)

    @model_validator(mode="after")
    def _reachable(self) -> TranscriptJudge:
        if not 0 < len(self.judges) <= 32:
            raise ValueError(f"there are {len(self.judges)} judges: name 1 to 32")
        if self.quorum > len(self.judges):
            raise ValueError(f"quorum is {self.quorum}, but there are {len(self.judges)} judges")
        priced = all(judge.price_in or judge.price_out or judge.local for judge in self.judges)
        if self.cost_limit is not None and not priced:
            raise ValueError("cost_limit needs price_in or price_out of every judge on another machine")
        return self

    def read(self, episode: Episode) -> list[Reading]:
        """Readings of all turns. Raises: `JudgeError` if a turn lacks verdicts, `JudgeLimitError` at the limit."""
        (found,) = self.read_many([episode])
        if isinstance(found, JudgeError):
            raise found
        return found

    def read_many(self, episodes: Sequence[Episode]) -> list[list[Reading] | JudgeError]:
        """The same of many episodes, whose questions are asked side by side, at most `concurrency` of them at once."""
        return [
            self._readings(episode, verdicts)
            for episode, verdicts in zip(episodes, self.examine(episodes), strict=True)
        ]

    def _readings(self, episode: Episode, verdicts: Verdicts) -> list[Reading] | JudgeError:
        lacking = np.flatnonzero(verdicts.heard < self.quorum)
        if lacking.size:
            return self._refusal(episode, lacking, verdicts.failures)
        return [Reading(self.name, self.trait, turn, float(score)) for turn, score in enumerate(verdicts.mean)]

    def examine(self, episodes: Sequence[Episode]) -> list[Verdicts]:
        """What every judge says of each episode, all asked at once. Failures are in the results; nothing is raised.

        Raises: `JudgeError` if the key of a judge is not in the environment.
        """
        strip = self.instructions == "removed"
        asked = [
            asked_of(episode, reads=self.reads, scope=self.scope, window=self.window, strip=strip)
            for episode in episodes
        ]
        places = [(e, j, part) for e, parts in enumerate(asked) for j in range(len(self.judges)) for part in parts]
        self._ledger.judged(len(episodes))
        outcomes = self._panel().ask([(j, part) for _, j, part in places])
        scores = [np.full((len(self.judges), len(episode.turns)), np.nan) for episode in episodes]
        reasons = [[[""] * len(episode.turns) for _ in self.judges] for episode in episodes]
        failures: list[list[Outcome]] = [[] for _ in episodes]
        for (e, j, _), outcome in zip(places, outcomes, strict=True):
            if outcome.kind:
                failures[e].append(outcome)
            for turn, verdict in outcome.turns.items():
                scores[e][j, turn], reasons[e][j][turn] = verdict.score, verdict.reason
        told = (tuple(tuple(of_judge) for of_judge in of_episode) for of_episode in reasons)
        return [Verdicts(s, r, tuple(f)) for s, r, f in zip(scores, told, failures, strict=True)]

    def report(self) -> dict[str, Any]:
        """Requests, tokens, cost and failures of this monitor in this process."""
        return self._ledger.report()

    def _panel(self) -> Panel:
        effort = Effort(self.attempts, self.backoff, self.concurrency, self.token_limit, self.cost_limit)
        folder = Path(self.cache).expanduser() if self.cache else None
        asked = [(judge, judge.question or QUESTIONS[self.trait]) for judge in self.judges]
        return Panel(asked, effort, folder, self._ledger, self._cache)

    def _refusal(self, episode: Episode, lacking: NDArray[np.int64], failures: Sequence[Outcome]) -> JudgeError:
        counts = Counter(outcome.kind for outcome in failures)
        first = failures[0]
        error = JudgeLimitError if set(counts) == {"limit"} else JudgeError
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items()))
        return error(
            f"monitor {self.name!r}: {len(lacking)} of {len(episode.turns)} turns of {episode.world!r}, seed "
            f"{episode.seed}, have fewer than {self.quorum} verdicts ({kinds}): {first.why}"
        )
