"""What judging a claim gives: a word, the numbers behind it, and a sentence."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from launch.report.claims.effects import EffectEstimate

Word = Literal["supported", "contradicted", "inconclusive", "not tested"]


_OPPOSITE: Mapping[Word, Word] = {"supported": "contradicted", "contradicted": "supported"}


def opposite(word: Word) -> Word:
    """The verdict of a claim that says the contrary."""
    return _OPPOSITE.get(word, word)


@dataclass(frozen=True)
class ArmVerdict:
    """The same rule applied to one arm; `p_holm` is adjusted over the arms of the treatment."""

    arm: str
    verdict: Word
    outcomes: tuple[EffectEstimate, ...]
    p_holm: float


@dataclass(frozen=True)
class Verdict:
    """One claim at one point of the study's axes (`point` is "" without axes). `sentence` says it in plain words."""

    claim: str
    statement: str
    verdict: Word
    rule: str
    outcomes: tuple[EffectEstimate, ...] = ()
    arms: tuple[ArmVerdict, ...] = ()
    notes: tuple[str, ...] = ()
    point: str = ""
    sentence: str = ""

    @property
    def contrasts(self) -> list[str]:
        """What the deciding numbers compare; where there are several, each number needs its own beside it."""
        return list(dict.fromkeys(outcome.contrast for outcome in self.outcomes if outcome.decides))


def as_json(verdicts: Sequence[Verdict], study: str, delta: float) -> dict[str, Any]:
    """The document of verdicts.json; a number that does not exist is null."""
    return {
        "format": "shaping-verdicts",
        "version": 2,
        "study": study,
        "smallest_effect_of_interest": delta,
        "verdicts": [
            {
                "claim": v.claim,
                "point": v.point,
                "statement": v.statement,
                "verdict": v.verdict,
                "sentence": v.sentence,
                "rule": v.rule,
                "numbers": [_numbers(outcome) for outcome in v.outcomes],
                "arms": [
                    {
                        "arm": a.arm,
                        "verdict": a.verdict,
                        "p_holm": _finite(a.p_holm),
                        "numbers": [_numbers(outcome) for outcome in a.outcomes],
                    }
                    for a in v.arms
                ],
                "notes": list(v.notes),
            }
            for v in verdicts
        ],
    }


def _numbers(outcome: EffectEstimate) -> dict[str, Any]:
    found = outcome.interval
    return {
        "metric": outcome.metric,
        "contrast": outcome.contrast,
        "mean": _finite(found.mean),
        "low": _finite(found.low),
        "high": _finite(found.high),
        "n": found.n,
        "level": round(outcome.level, 6),
        "effect": outcome.effect if outcome.decides else None,
    }


def _finite(value: float) -> float | None:
    return None if math.isnan(value) else value
