"""What became of every claim: the word, the numbers behind it, the rule, and the same rule arm by arm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from launch.report.claims.effects import EffectEstimate
from launch.report.claims.verdict import ArmVerdict, Verdict
from launch.report.escaping import signed
from launch.report.markdown import blocks, bullets, line, table
from launch.report.rendering import p_value
from launch.report.results import Results
from launch.report.sections.base import Section
from launch.report.statistics.power import MOST, TARGET, Power


@dataclass(frozen=True)
class Judged:
    """The verdicts of every point of the axes, in the order of the study, and what arms are called."""

    points: Mapping[str, Sequence[Verdict]]
    titles: Mapping[str, str]

    @staticmethod
    def power(found: Power) -> str:
        """The power in words."""
        return power(found)

    @staticmethod
    def side(verdict: Verdict, outcome: EffectEstimate) -> str:
        """How an outcome's contrast differs from the others of its claim: `constraint arms`; empty if it does not."""
        names = verdict.contrasts
        if len(names) < 2:
            return ""
        shared = len({name.rpartition(" - ")[2] for name in names}) == 1
        return (outcome.contrast.rpartition(" - ")[0] if shared else outcome.contrast).removeprefix("mean of ")


class Verdicts(Section):
    """A card per claim, and all numbers and rules behind it."""

    title = "Verdicts"
    position = 20

    def compute(self, results: Results) -> Judged | None:
        points: dict[str, list[Verdict]] = {}
        for verdict in results.verdicts:
            points.setdefault(verdict.point, []).append(verdict)
        return Judged(points, {name: arm.title for name, arm in results.arms.items()}) if points else None

    def markdown(self, content: Judged) -> str:
        return blocks(*[_verdict(verdict, content.titles) for found in content.points.values() for verdict in found])


def power(found: Power) -> str:
    """What n replicates with this spread can decide."""
    needed = f"more than {MOST}" if found.needed is None else str(found.needed)
    return f"{found.power:.2f} at n = {found.n} and SD {found.sd:.2g}; {needed} for {TARGET:.0%}"


def _verdict(verdict: Verdict, titles: Mapping[str, str]) -> str:
    point = f" ({verdict.point})" if verdict.point else ""
    return blocks(
        f"### {line(f'{verdict.claim}{point}: {verdict.verdict}')}",
        line(verdict.statement, len(verdict.statement)),
        table(("contrast", "metric", "difference", "level", "n", "effect", "power"), map(_numbers, verdict.outcomes))
        if verdict.outcomes
        else "",
        "The same rule, per arm:" if verdict.arms else "",
        bullets(_of_arm(arm, titles) for arm in verdict.arms),
        f"Power before the runs, {power(verdict.assumed)}." if verdict.assumed else "",
        line(f"Rule: {verdict.rule}", len(verdict.rule) + 6),
        *[line(f"Note: {note}") for note in verdict.notes],
    )


def _numbers(outcome: EffectEstimate) -> tuple[str, ...]:
    found = outcome.interval
    effect = outcome.effect if outcome.decides else "context"
    return (
        outcome.contrast,
        outcome.label,
        signed(*found[:3]),
        f"{100 * outcome.level:.3g}%",
        str(found.n),
        effect,
        power(outcome.power) if outcome.power else "",
    )


def _of_arm(arm: ArmVerdict, titles: Mapping[str, str]) -> str:
    numbers = "; ".join(f"{o.label} {signed(*o.interval[:3])}, {o.effect}" for o in arm.outcomes)
    return f"{titles[arm.arm]}: {arm.verdict} ({numbers}; Holm p {p_value(arm.p_holm)})"
