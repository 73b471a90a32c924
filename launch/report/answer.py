"""The verdicts in plain language. Every sentence is built from a verdict; none is written beforehand."""

from __future__ import annotations

from collections.abc import Sequence

from launch.report.claims.effects import EffectEstimate
from launch.report.claims.judge import Verdict
from launch.report.escaping import signed

ASKED = (
    "Does constraining the actions of a reinforcement-learned agent make it deceptive, and does shaping its "
    "motivations avoid that? And what does each of the two cost in reward?"
)


def answer(verdicts: Sequence[Verdict]) -> str:
    """One line per hypothesis, in one block for each point of the study's axes; the last line explains the brackets."""
    points = list(dict.fromkeys(verdict.point for verdict in verdicts))
    lines = []
    for point in points:
        lines += [f"At {point}:"] if point else []
        lines += [sentence(v) for v in verdicts if v.point == point]
    return "\n".join(filter(None, [*lines, _brackets(verdicts)]))


def sentence(verdict: Verdict) -> str:
    """What one verdict says, with the numbers it rests on."""
    tail = f" ({verdict.hypothesis} {verdict.verdict}.)"
    if verdict.verdict == "not tested":
        return f"{verdict.hypothesis} was not tested: {'; '.join(verdict.notes)}."
    if verdict.hypothesis == "H3":
        return _access(verdict) + tail
    if verdict.hypothesis == "H4":
        return _irrelevant(verdict) + tail
    family = {"H1": "Constraining actions", "H2": "Shaping motivations"}[verdict.hypothesis]
    return _harms(family, verdict) + tail


def _harms(family: str, verdict: Verdict) -> str:
    decisive = [o for o in verdict.outcomes if o.decides]
    up = [o for o in decisive if o.effect == "raised"]
    if up:
        rest = [o for o in decisive if o.effect != "raised"]
        aside = "".join(f"; {_list([o])} was {o.effect}" for o in rest)
        return f"{family} raised {_list(up)} against the unshaped arm{aside}."
    if all(o.effect == "not raised" for o in decisive):
        return f"{family} raised none of {_list(decisive)} by an amount that matters."
    return f"Whether {family[0].lower()}{family[1:]} raises deception or the hidden gap stays open: {_list(decisive)}."


def _access(verdict: Verdict) -> str:
    lost = {"lost": "lost reward access", "not lost": "kept reward access", "unclear": "may or may not have lost it"}
    parts = [f"{o.contrast.split()[2]} arms {lost[o.effect]} ({_number(o)})" for o in verdict.outcomes if o.decides]
    paid = [f"{o.contrast.split()[2]} arms {_number(o)}" for o in verdict.outcomes if o.metric == "proxy_reward"]
    text = ", ".join(parts) + (f"; in proxy reward at deployment: {', '.join(paid)}" if paid else "")
    return f"{text[0].upper()}{text[1:]}."


def _irrelevant(verdict: Verdict) -> str:
    decisive = [o for o in verdict.outcomes if o.decides]
    apart = [o for o in decisive if o.effect == "differs"]
    if apart:
        return f"Inoculation and an irrelevant prompt of the same kind differ in {_list(apart)}."
    if verdict.verdict == "contradicted":
        return f"An irrelevant prompt did the same as the inoculation in {_list(decisive)}."
    return f"Whether the inoculation does more than an irrelevant prompt stays open: {_list(decisive)}."


def _list(outcomes: Sequence[EffectEstimate]) -> str:
    told = [f"{outcome.label} ({_number(outcome)})" for outcome in outcomes]
    return " and ".join(filter(None, [", ".join(told[:-1]), told[-1]]))


def _number(outcome: EffectEstimate) -> str:
    return signed(*outcome.interval[:3], digits=2)


def _brackets(verdicts: Sequence[Verdict]) -> str:
    """What the bracketed numbers are."""
    decisive = [o for v in verdicts for o in v.outcomes if o.decides]
    if not decisive:
        return ""
    levels = " or ".join(f"{100 * level:.3g}%" for level in sorted({o.level for o in decisive}))
    counts = sorted({o.interval.n for o in decisive})
    seeds = f"{counts[0]} to {counts[-1]}" if len(counts) > 1 else f"{counts[0]}"
    return f"In brackets: {levels} intervals of the difference, over {seeds} seeds."
