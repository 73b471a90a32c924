"""What a study commits itself to before it runs, as one page: claims, primary outcomes, margins, replicates, stopping.

The page holds the digest of everything that the results depend on. It is committed before the runs, and its digest says
afterwards whether they are of the study that was registered.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path

from launch.config.arms.arms import ArmConfig
from launch.config.claims import build_claims
from launch.config.reading.published import without_places
from launch.config.seeds import Looks
from launch.config.stages import described
from launch.config.study import StudyConfig
from launch.report.claims.base import Claim, asked, rule_of
from launch.report.claims.judge import tables
from launch.report.claims.table import Table
from launch.report.files.load import Study, planned_arms
from launch.report.markdown import blocks, bullets, line, table
from launch.slices.source import study_digest

_DIGEST = re.compile(r"^digest: ([0-9a-f]+)$", re.MULTILINE)


def registered_digest(study: StudyConfig) -> str:
    """Hash of the study without the keys that change no number: the digest that slices of it have."""
    return study_digest(without_places(study.model_dump(mode="json")))


def read_digest(page: str) -> str:
    """The digest that a page of `preregistration` holds; empty if it has none."""
    found = _DIGEST.search(page)
    return found[1] if found else ""


def preregistration(study: StudyConfig, margin: float) -> str:
    """The page, as Markdown. Raises `ConfigError` if a claim names what the study does not have."""
    planned = Study(study.name, Path(), study, planned_arms(study), ())
    claims = build_claims(study)
    runs = study.runs()
    seeds = sorted({run.seed for run in runs})
    subjects = list(dict.fromkeys(run.subject for run in runs))
    arms = [(name, str(arm.role), ", ".join(_methods(arm)) or "none") for name, arm in study.arms.items()]
    return (
        blocks(
            f"# Preregistration: {line(study.name)}",
            line(study.report.question, len(study.report.question)),
            f"digest: {registered_digest(study)}",
            bullets(
                [
                    f"runs: {len(runs)}, of {len(study.arms)} arms; replicates: {_listed(seeds)}",
                    f"subjects: {', '.join(subjects)}; a replicate is a subject and a seed, and claims hold for them",
                    f"margin: {margin:g} in the unit of the metric, where a claim names no other",
                    f"stopping: {_stopping(study)}",
                    "left out: nothing; runs that failed are listed with their reasons",
                ]
            ),
            *_stages(study),
            "## Arms",
            table(["arm", "role", "interventions"], arms),
            "## Controls",
            *_claims([claim for claim in claims if claim.must], planned, margin),
            "## Claims",
            *_claims([claim for claim in claims if not claim.must], planned, margin),
        )
        + "\n"
    )


def _stages(study: StudyConfig) -> Iterator[str]:
    """The stages of fine-tuning, and which arms differ in them; nothing for a study of reinforcement learning alone."""
    if not study.stages:
        return
    yield "## Stages"
    rows = [
        (*(str(stage[key] or "–") for key in ("name", "kind", "data", "control")),) for stage in described(study.stages)
    ]
    yield table(["stage", "kind", "data", "control"], rows)
    own = {name: {k: v for k, v in arm.set.items() if k.startswith("stages.")} for name, arm in study.arms.items()}
    if own := {name: keys for name, keys in own.items() if keys}:
        yield bullets(
            [line(f"{name} sets {key}: {value}") for name, keys in own.items() for key, value in keys.items()]
        )


def _claims(claims: list[Claim], study: Study, margin: float) -> Iterator[str]:
    if not claims:
        yield "None."
    for claim in claims:
        places = [place for place in tables(study, {}, margin, claim.axes) if asked(claim, "holds_at", bool, place)]
        judged_at = ", ".join(place.point for place in places if place.point)
        yield f"### {line(claim.id)}"
        yield line(claim.statement, len(claim.statement))
        yield bullets([fact for place in places[:1] for fact in _facts(claim, place, judged_at)])


def _facts(claim: Claim, place: Table, judged_at: str) -> Iterator[str]:
    yield f"kind: {type(claim).__name__}; primary outcome: {', '.join(claim.metrics)}"
    if judged_at:
        yield f"judged at: {judged_at}"
    if claim.must:
        yield f"must be: {claim.must}"
    if claim.controls:
        yield f"proves nothing unless these come out as they must: {', '.join(claim.controls)}"
    if claim.needs:
        yield f"needs subjects that passed: {', '.join(claim.needs)}"
    if claim.assumes:
        power = claim.assumes.power if claim.assumes.power is not None else math.nan
        stated = f", which gives a power of {power:.2f}" if math.isfinite(power) else ""
        yield f"assumed: a standard deviation of {claim.assumes.sd:g} between replicates{stated}"
    yield f"rule: {rule_of(claim, place)}"


def _stopping(study: StudyConfig) -> str:
    if isinstance(study.seeds, Looks):
        looks = ", ".join(map(str, study.seeds.looks))
        return f"looks after {looks} replicates, until every claim is decided or given up (docs/claims.md)"
    return "every run is played to its end, and all of them before a claim is judged"


def _methods(arm: ArmConfig) -> list[str]:
    """The interventions of an arm; those of a single seat with its name."""
    own = [f"{each.use} ({seat})" for seat, specs in arm.seats.items() for each in specs]
    return [*(each.use for each in arm.interventions), *own]


def _listed(seeds: list[int]) -> str:
    whole = seeds == list(range(seeds[0], seeds[-1] + 1))
    return f"{seeds[0]} to {seeds[-1]}" if whole and len(seeds) > 1 else ", ".join(map(str, seeds))
