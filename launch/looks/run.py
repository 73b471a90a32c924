"""Run a study up to each of its looks; stop when every claim is decided or given up."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

from launch.config.seeds import Looks
from launch.config.study import StudyConfig
from launch.looks.record import Look, looks_taken, record_looks, stopped
from launch.report.build import DELTA
from launch.report.claims.effects import EffectEstimate
from launch.report.claims.judge import judge_study
from launch.report.claims.verdict import Verdict
from launch.report.files.load import load
from launch.report.statistics.spending import chance_to_cross, levels
from launch.report.table import values_of
from launch.study import StudyResult

Run = Callable[[Sequence[int]], StudyResult]
"""Runs the study's unfinished runs of these seeds."""


def run_looks(config: StudyConfig, run: Run, tell: Callable[[str], None]) -> StudyResult:
    """Run the study, in steps if it has looks. Looks that were taken before count, so that it can be resumed.

    A look is taken only when all runs up to it are finished: with failed ones the same command goes on from there.
    """
    if not isinstance(config.seeds, Looks):
        return run(())
    result = StudyResult(Path())
    for replicates in config.seeds.looks:
        step = run(config.seed_list[:replicates])
        kept = [name for name in step.kept if name not in result.finished]
        result = StudyResult(step.directory, [*result.finished, *step.finished], kept, step.failed)
        if step.failed:
            return result
        looks = looks_taken(step.directory)
        if not any(look.replicates == replicates for look in looks):
            looks = [*looks, Look(replicates=replicates, open=tuple(open_claims(config, step.directory, replicates)))]
            record_looks(step.directory, looks)
        tell(_told(config.seeds, looks))
        if stopped(config, looks[: config.seeds.looks.index(replicates) + 1]):
            return result
    return result


def open_claims(config: StudyConfig, directory: Path, replicates: int) -> list[str]:
    """Claims that are neither decided at this look nor given up."""
    study = load(directory)
    verdicts = judge_study(study, values_of(study), DELTA, replicates)
    margins = {name: spec.fields.get("margin") or DELTA for name, spec in config.claims.items()}
    return list(dict.fromkeys(v.claim for v in verdicts if _open(v, config, replicates, float(margins[v.claim]))))


def _open(verdict: Verdict, config: StudyConfig, replicates: int, margin: float) -> bool:
    if verdict.verdict != "inconclusive":
        return False
    assert isinstance(config.seeds, Looks)
    looks = config.seeds.looks
    share, last = replicates / looks[-1], levels(looks)[-1]
    return any(_promising(o, margin, share, last, config.seeds.futility) for o in verdict.outcomes if o.decides)


def _promising(outcome: EffectEstimate, margin: float, share: float, level: float, least: float) -> bool:
    """May the last look decide an outcome that is open: as an effect, or, if no replicate has turned, as none?"""
    if outcome.effect != "unclear":
        return False
    if not outcome.se > 0:
        return True
    mean = outcome.interval.mean * (outcome.direction or math.copysign(1, outcome.interval.mean))
    effect = chance_to_cross(mean / outcome.se, share, level)
    absence = chance_to_cross((margin - mean) / outcome.se, share, level)
    if outcome.turned is not None and not outcome.turned.none:
        absence = 0.0
    return max(effect, absence) >= least


def _told(seeds: Looks, looks: Sequence[Look]) -> str:
    now = looks[-1]
    left = f"open: {', '.join(now.open)}" if now.open else "every claim is decided or given up"
    return f"look {len(looks)} of at most {len(seeds.looks)}, after {now.replicates} replicates: {left}"
