"""The claims that several studies share, effect by effect, and what is not the same in them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from launch.compare.effects import Effect, Gap, gap
from launch.compare.sides import Side
from launch.errors import UserError, nearest
from launch.report.claims.verdict import Verdict
from launch.report.metrics import label
from launch.report.statistics.estimate import contrast
from launch.report.table import finite, under_same_prompts
from launch.storage.versions import differences

SHOWN = 8
"""Keys that a sentence about differences names."""


@dataclass(frozen=True)
class Row:
    """One contrast in all sides; None where a study has not got it."""

    metric: str
    contrast: str
    effects: tuple[Effect | None, ...]

    @property
    def title(self) -> str:
        return f"{label(self.metric)}, {self.contrast}"

    @property
    def gaps(self) -> tuple[Gap | None, ...]:
        """How far each study after the first that has the effect lies from that first one."""
        found: list[Gap | None] = []
        first: Effect | None = None
        for effect in self.effects:
            found.append(None if effect is None or first is None else gap(first, effect))
            first = first or effect
        return tuple(found)


@dataclass(frozen=True)
class Shared:
    """A claim that at least two studies make, at one point of their axes."""

    claim: str
    point: str
    verdicts: tuple[Verdict | None, ...]
    rows: tuple[Row, ...]
    remarks: tuple[str, ...] = ()
    """How the studies differ in what they ask by this name."""

    @property
    def title(self) -> str:
        return self.claim + (f" at {self.point}" if self.point else "")

    @property
    def statement(self) -> str:
        """As the first study that makes it says it."""
        return next(each.statement for each in self.verdicts if each is not None)

    @property
    def words(self) -> tuple[str, ...]:
        """The verdict of each study; `not claimed` where it does not make the claim."""
        return tuple("not claimed" if each is None else each.verdict for each in self.verdicts)


@dataclass(frozen=True)
class Comparison:
    """All of it."""

    sides: Sequence[Side]
    shared: Sequence[Shared]
    metrics: Sequence[Row]
    """Of metrics that were asked for: arms of one name against their reference."""
    differing: Sequence[str]
    """What differs beside the results, in sentences."""
    apart: Sequence[str]
    """Claims that one study alone makes."""


def compared(sides: Sequence[Side], metrics: Sequence[str] = ()) -> Comparison:
    """Put studies side by side.

    Args:
        sides: the studies.
        metrics: metrics of which each arm's difference to its reference is compared, beside the claims.
    Raises: `UserError` for a metric that no two studies have, and if there is nothing to compare.
    """
    keys = dict.fromkeys((v.claim, v.point) for side in sides for v in side.verdicts)
    shared, alone = [], []
    for claim, point in keys:
        found = tuple(next((v for v in s.verdicts if (v.claim, v.point) == (claim, point)), None) for s in sides)
        if sum(each is not None for each in found) > 1:
            shared.append(Shared(claim, point, found, tuple(_rows(found)), tuple(_remarks(sides, claim, found))))
        else:
            side = next(s for s, each in zip(sides, found, strict=True) if each is not None)
            alone.append(f"{side.label}: {claim}" + (f" at {point}" if point else ""))
    asked = [row for metric in metrics for row in _of_metric(sides, metric)]
    if not shared and not asked:
        names = "; ".join(
            f"{s.label}: {', '.join(dict.fromkeys(v.claim for v in s.verdicts)) or 'none'}" for s in sides
        )
        raise UserError(
            f"these studies share no claim at the same point of their axes ({names}): compare studies that make the "
            "same claims, or name metrics with --metric"
        )
    return Comparison(sides, shared, asked, list(_differing(sides)), alone)


def _rows(verdicts: Sequence[Verdict | None]) -> Iterator[Row]:
    """The contrasts that decide the claim anywhere, in the order in which they are met."""
    keys = dict.fromkeys((o.metric, o.contrast) for v in verdicts if v for o in v.outcomes if o.decides)
    for metric, name in keys:
        found = [
            next((o for o in (v.outcomes if v else ()) if (o.metric, o.contrast) == (metric, name)), None)
            for v in verdicts
        ]
        yield Row(metric, name, tuple(None if each is None else Effect.of(each) for each in found))


def _remarks(sides: Sequence[Side], claim: str, found: Sequence[Verdict | None]) -> Iterator[str]:
    making = [(side, verdict) for side, verdict in zip(sides, found, strict=True) if verdict is not None]
    first, said = making[0]
    for side, verdict in making[1:]:
        if others := differences(first.claim(claim), side.claim(claim)):
            yield f"{first.label} and {side.label} settle {claim} in different ways: {_some(others)}"
        elif verdict.statement != said.statement:
            yield f"{side.label} says it in other words: {verdict.statement}"
    for side, verdict in making:
        if verdict.controls_failed:
            yield f"controls failed in {side.label}: {', '.join(verdict.controls_failed)}"
        if verdict.reason:
            yield f"not tested in {side.label}: {verdict.reason}"


def _of_metric(sides: Sequence[Side], metric: str) -> list[Row]:
    """Each arm's difference to its reference, for the arms that at least two studies have."""
    found = {(side.label, arm): effect for side in sides for arm, effect in _differences(side, metric)}
    rows = []
    for arm in dict.fromkeys(arm for _, arm in found):
        effects = tuple(found.get((side.label, arm)) for side in sides)
        if sum(effect is not None for effect in effects) > 1:
            rows.append(Row(metric, f"{arm} - reference", effects))
    if not rows:
        known = set.intersection(*({m for own in side.values.values() for m in own} for side in sides))
        if metric in known:
            arms = "; ".join(f"{side.label}: {', '.join(side.study.arms)}" for side in sides)
            raise UserError(
                f"--metric: beside their references, no two of the studies have an arm of one name ({arms}): give arms "
                "that are the same the same name"
            )
        raise UserError(
            f"--metric: no two of the studies have {metric!r} of an arm of one name{nearest(metric, known)}"
        )
    return rows


def _differences(side: Side, metric: str) -> Iterator[tuple[str, Effect]]:
    for name, arm in side.study.arms.items():
        reference = side.study.reference(arm)
        own = finite(side.values[name].get(metric, {}))
        if reference is None or reference.name == name or not own:
            continue
        base = finite(under_same_prompts(side.values[reference.name], metric, name))
        estimate = contrast({"a": own, "b": base}, {"a": 1.0, "b": -1.0}, side.study.subjects)
        if estimate is not None:
            low, high = map(float, estimate.bounds(0.95))
            yield name, Effect(float(estimate.mean), low, high, min(len(own), len(base)), 0.95, float(estimate.se))


def _some(lines: Sequence[str]) -> str:
    more = f"; and {len(lines) - SHOWN} more" if len(lines) > SHOWN else ""
    return "; ".join(lines[:SHOWN]) + more


def _differing(sides: Sequence[Side]) -> Iterator[str]:
    first, made = sides[0], [side.made_with() for side in sides]
    for side in sides[1:]:
        if side.digest == first.digest:
            continue
        lines = differences(first.settings, side.settings)
        told = f": {_some(lines)}" if lines else " in their claims alone, or in how an older version wrote them down"
        yield f"settings of {first.label} (digest {first.digest}) and {side.label} ({side.digest}) differ{told}"
    for side in sides[1:]:
        if same := _runs_alike(first, side):
            yield (
                f"{same} runs of {first.label} and {side.label} are the same to the last digit: they are no "
                "independent evidence, and the differences between the two say nothing about chance"
            )
    for name in dict.fromkeys(name for facts in made for name in facts):
        values = [facts.get(name) for facts in made]
        known = {value for value in values if value is not None}
        if len(known) > 1:
            yield f"{name}: " + "; ".join(f"{s.label} {v or 'unknown'}" for s, v in zip(sides, values, strict=True))


def _runs_alike(first: Side, other: Side) -> int:
    summaries = {(run.arm, run.seed): run.result["summary"] for run in first.study.runs}
    return sum(summaries.get((run.arm, run.seed)) == run.result["summary"] for run in other.study.runs)


def as_json(found: Comparison) -> dict[str, Any]:
    """The document of comparison.json; a number that does not exist is null."""
    return {
        "format": "shaping-comparison",
        "version": 1,
        "studies": [
            {"label": s.label, "study": s.study.name, "digest": s.digest, "runs": len(s.study.runs)}
            for s in found.sides
        ],
        "claims": [
            {
                "claim": each.claim,
                "point": each.point,
                "statement": each.statement,
                "verdicts": list(each.words),
                "remarks": list(each.remarks),
                "numbers": [_row(row) for row in each.rows],
            }
            for each in found.shared
        ],
        "metrics": [_row(row) for row in found.metrics],
        "differing": list(found.differing),
        "claims_of_one_study": list(found.apart),
    }


def _row(row: Row) -> dict[str, Any]:
    return {
        "metric": row.metric,
        "contrast": row.contrast,
        "effects": [None if e is None else _numbers(e, n=e.n, level=e.level, effect=e.word) for e in row.effects],
        "gaps": [None if g is None else _numbers(g, apart=g.apart) for g in row.gaps],
    }


def _numbers(found: Effect | Gap, **others: Any) -> dict[str, Any]:
    values = {"mean": found.mean, "low": found.low, "high": found.high}
    return {key: value if value == value else None for key, value in values.items()} | others
