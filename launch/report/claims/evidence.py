"""What a study knows besides the metrics of its runs: subjects and their gates, sizes of evaluations, looks taken."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from launch.config.seeds import Looks
from launch.looks.record import looks_taken
from launch.report.files.load import Study
from launch.report.statistics.chances import chances
from launch.report.statistics.spending import levels
from shaping.audits.training.weak_signal import first_quarter_varied

Gates = Mapping[str, Mapping[str, Mapping[str, Any]]]
"""World -> gate -> {value, threshold, passed}."""


@dataclass(frozen=True)
class Evidence:
    """All of it is optional: what is unknown is said to be."""

    subjects: Mapping[int, str] = field(default_factory=dict)
    """Seed -> the subject that its runs start from."""
    gates: Mapping[str, Gates] = field(default_factory=dict)
    """Subject -> its gates, for the subjects that have any."""
    chances: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Arm -> metric -> chances behind one replicate's value."""
    worlds: tuple[str, ...] = ()
    """The worlds that arms train in."""
    planned: int = 0
    """Replicates that the study asks for; 0 if unknown."""
    alpha: float = 0.05
    """One-sided level of each test: less than 5% where the study looks at its runs more than once."""
    look: str = ""
    """Which of several looks this is, in words."""
    untested: Mapping[str, str] = field(default_factory=dict)
    """Arm -> why a run of it says nothing about its method, for the arms of which one does not."""
    varied: Mapping[str, frozenset[int]] = field(default_factory=dict)
    """Arm -> seeds of the runs of which some group varied in the first quarter of the last stage's updates."""
    last_stage: Mapping[str, str] = field(default_factory=dict)
    """Arm -> name of its last stage, for the arms that have stages."""


def evidence_of(study: Study, replicates: int | None = None) -> Evidence:
    """What the runs of a study recorded; of one that is judged in steps, at the look after so many replicates."""
    subjects = study.subjects
    gates = _gates_of(study)
    untested = {run.arm: str(why) for run in study.runs for why in run.result.get("untested") or ()}
    sized = Evidence(subjects, gates, chances(study), study.trained_worlds, len(study.config.seed_list))
    varied = {
        arm: frozenset(run.seed for run in study.of(arm) if first_quarter_varied(run.train)) for arm in study.arms
    }
    last_stage = {run.arm: str(stages[-1]["name"]) for run in study.runs if (stages := run.result.get("stages"))}
    found = replace(sized, untested=untested, varied=varied, last_stage=last_stage)
    looks = study.config.seeds.looks if isinstance(study.config.seeds, Looks) else ()
    if replicates not in looks:
        return found
    index = looks.index(replicates)
    said = f"look {index + 1} of at most {len(looks)}, after {replicates} of at most {looks[-1]} replicates"
    return replace(found, alpha=levels(looks)[index], look=said)


def _gates_of(study: Study) -> dict[str, dict[str, dict[str, Any]]]:
    """Subject -> world -> gate, of all runs together: what was measured before training is in the reference's alone."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for run in study.runs:
        of_run = run.result.get("gates")
        for world, gates in of_run.items() if isinstance(of_run, dict) else ():
            if isinstance(gates, dict):
                found.setdefault(study.subjects[run.seed], {}).setdefault(world, {}).update(gates)
    return found


def look_of(study: Study) -> int | None:
    """Replicates of the last look that a study has taken; None if it has one look, at the end.

    Without a record (rows of runs keep none) it is the last one that all of its seeds reach.
    """
    if not isinstance(study.config.seeds, Looks):
        return None
    if taken := looks_taken(study.directory):
        return taken[-1].replicates
    reached = [look for look in study.config.seeds.looks if look <= len(study.seeds)]
    return reached[-1] if reached else study.config.seeds.looks[0]
