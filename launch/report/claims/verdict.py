"""What judging a claim gives: a word, the numbers behind it, and a sentence."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from launch.report.claims.effects import EffectEstimate
from launch.report.statistics.power import Power

Word = Literal["supported", "contradicted", "inconclusive", "not tested"]


_OPPOSITE: Mapping[Word, Word] = {"supported": "contradicted", "contradicted": "supported"}


def opposite(word: Word) -> Word:
    """The verdict of a claim that says the contrary."""
    return _OPPOSITE.get(word, word)


@dataclass(frozen=True)
class ArmVerdict:
    """The same rule applied to one arm; `p_holm` is the least of its p-values, adjusted over the claim's arms."""

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
    reason: str = ""
    """Why it was not tested."""
    must: str | None = None
    """Of a control: the verdict that it has to get."""
    controls: tuple[str, ...] = ()
    """The controls that the claim names."""
    controls_failed: tuple[str, ...] = ()
    """Those of them that did not come out as they must: without them the verdict proves nothing."""
    assumed: Power | None = None
    """The power that followed from what was assumed before the study ran."""
    pressure: Mapping[str, float] = field(default_factory=dict)
    """Arm, or `<arm> in <world>` -> pressure index, as far as it is known."""

    @property
    def contrasts(self) -> list[str]:
        """What the deciding numbers compare; where there are several, each number needs its own beside it."""
        return list(dict.fromkeys(outcome.contrast for outcome in self.outcomes if outcome.decides))

    @property
    def behaved(self) -> bool:
        """Of a control: did it come out as it must?"""
        return self.must in (None, self.verdict)

    def refused(self, reason: str) -> Verdict:
        """The verdict of a claim that its runs cannot test."""
        said = f"{self.claim} was not tested: {reason}."
        return replace(self, verdict="not tested", reason=reason, notes=(reason, *self.notes), sentence=said)


def as_json(verdicts: Sequence[Verdict], study: str, margin: float) -> dict[str, Any]:
    """The document of verdicts.json; a number that does not exist is null."""
    return {
        "format": "shaping-verdicts",
        "version": 3,
        "study": study,
        "smallest_effect_of_interest": margin,
        "verdicts": [_document(verdict) for verdict in verdicts],
    }


def _document(v: Verdict) -> dict[str, Any]:
    return {
        "claim": v.claim,
        "point": v.point,
        "statement": v.statement,
        "verdict": v.verdict,
        "reason": v.reason,
        "sentence": v.sentence,
        "rule": v.rule,
        "must": v.must,
        "behaved": v.behaved if v.must else None,
        "controls": list(v.controls),
        "controls_failed": list(v.controls_failed),
        "assumed_power": asdict(v.assumed) if v.assumed else None,
        "pressure": dict(v.pressure),
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
        "p": _finite(outcome.p),
        "turned": asdict(outcome.turned) if outcome.turned else None,
        "power": asdict(outcome.power) if outcome.power else None,
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
