"""Studies in steps: which runs, which levels, when they stop, and that they go on where they were."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from synthetic_study import config, write_study

from launch.config.study import StudyConfig
from launch.errors import RunDirectoryError
from launch.looks.record import Look, looks_taken, record_looks, seeds_so_far
from launch.looks.run import run_looks
from launch.report.claims.judge import judge_study
from launch.report.files.load import load
from launch.report.statistics.spending import levels
from launch.report.table import values_of
from launch.study import Failure, StudyResult

SAID = {"statement": "So.", "treatment": "action_mask", "metrics": ["deception"]}
LOOKS = (5, 8, 12)


def study(**claim: Any) -> StudyConfig:
    return config(seeds={"looks": list(LOOKS)}, claims={"C": {**SAID, **claim}})  # type: ignore[arg-type]


def runner(path: Path, of: StudyConfig, asked: list[int], **summary: float) -> Callable[[Sequence[int]], StudyResult]:
    """Finishes the runs of the seeds that are asked for, with random outcomes or these."""

    def run(seeds: Sequence[int]) -> StudyResult:
        asked.append(len(seeds))
        there = {(p.parent.name, int(p.name.removeprefix("seed-"))) for p in path.glob("runs/*/seed-*")}
        every = [(r.point_name, r.seed) for r in of.runs()]
        wanted = [run for run in every if run[1] in seeds and run not in there]
        write_study(
            path, of, absent=[run for run in every if run not in wanted], summary=summary, episodes=False, updates=2
        )
        names = {run: f"{run[0]}/seed-{run[1]}" for run in every}
        return StudyResult(path, [names[run] for run in wanted], [names[run] for run in every if run in there])

    return run


def test_seeds_may_be_looks_which_rise_from_five() -> None:
    assert study(use="Raises").seed_list == list(range(12))
    assert len(study(use="Raises").runs()) == 12 * 7
    for wrong in ([8], [8, 8], [12, 8], [4, 8], []):
        with pytest.raises(ValidationError, match="looks"):
            config(seeds={"looks": wrong})  # type: ignore[arg-type]


def test_a_study_whose_claims_are_decided_stops_at_the_first_look(tmp_path: Path) -> None:
    """All outcomes are equal: no difference, and no variance but that of the evaluation."""
    of, asked, said = study(use="DoesNotRaise"), [], []  # type: tuple[StudyConfig, list[int], list[str]]
    result = run_looks(of, runner(tmp_path / "s", of, asked, deception=0.2), said.append)
    assert asked == [5]
    assert looks_taken(tmp_path / "s") == [Look(replicates=5)]
    assert len(result.finished) == 5 * 7
    assert said == ["look 1 of at most 3, after 5 replicates: every claim is decided or given up"]
    read = load(tmp_path / "s")
    assert len(read.runs) == 5 * 7 and not read.missing
    (verdict,) = judge_study(read, values_of(read), 0.1)
    assert verdict.verdict == "supported"
    assert "look 1 of at most 3, after 5 of at most 12 replicates" in verdict.notes
    assert verdict.outcomes[0].level == pytest.approx(1 - 2 * levels(LOOKS)[0])


def test_an_open_claim_goes_on_to_the_last_look(tmp_path: Path) -> None:
    of, asked, said = study(use="DoesNotDiffer", margin=0.02), [], []  # type: tuple[StudyConfig, list[int], list[str]]
    of = of.model_copy(update={"seeds": of.seeds.model_copy(update={"futility": 0.0})})  # type: ignore[union-attr]
    run_looks(of, runner(tmp_path / "s", of, asked), said.append)
    assert asked == [5, 8, 12]
    assert [look.open for look in looks_taken(tmp_path / "s")] == [("C",), ("C",), ("C",)]
    read = load(tmp_path / "s")
    (verdict,) = judge_study(read, values_of(read), 0.1)
    assert verdict.outcomes[0].interval.n == 12
    assert verdict.outcomes[0].level == pytest.approx(1 - 2 * levels(LOOKS)[2])


def test_a_claim_that_will_stay_open_is_given_up(tmp_path: Path) -> None:
    of, asked = study(use="DoesNotDiffer", margin=0.0001, metrics=["invalid"]), []  # type: tuple[StudyConfig, list[int]]
    of = of.model_copy(update={"seeds": of.seeds.model_copy(update={"futility": 0.5})})  # type: ignore[union-attr]
    run_looks(of, runner(tmp_path / "s", of, asked), lambda line: None)
    assert asked == [5]
    read = load(tmp_path / "s")
    assert judge_study(read, values_of(read), 0.1)[0].verdict == "inconclusive"


def test_looks_that_were_taken_are_not_taken_again(tmp_path: Path) -> None:
    """What was decided at a look stays, and the study goes on after it."""
    of, asked = study(use="DoesNotRaise"), []  # type: tuple[StudyConfig, list[int]]
    run = runner(tmp_path / "s", of, asked, deception=0.2)
    run(range(5))
    record_looks(tmp_path / "s", [Look(replicates=5, open=("C",))])
    assert seeds_so_far(of, tmp_path / "s") == list(range(8))
    result = run_looks(of, run, lambda line: None)
    assert asked == [5, 5, 8]
    assert [look.replicates for look in looks_taken(tmp_path / "s")] == [5, 8]
    assert len(result.finished) == 3 * 7 and len(result.kept) == 5 * 7
    run_looks(of, run, lambda line: None)
    assert asked == [5, 5, 8, 5, 8]
    assert len(looks_taken(tmp_path / "s")) == 2


def test_nothing_is_looked_at_while_a_run_has_failed(tmp_path: Path) -> None:
    of, asked = study(use="DoesNotRaise"), []  # type: tuple[StudyConfig, list[int]]
    run = runner(tmp_path / "s", of, asked)

    def failing(seeds: Sequence[int]) -> StudyResult:
        done = run(seeds)
        done.failed.append(Failure("action_mask/seed-0", "lost", tmp_path))
        return done

    result = run_looks(of, failing, lambda line: None)
    assert (asked, len(result.failed), looks_taken(tmp_path / "s")) == ([5], 1, [])


def test_a_study_without_looks_runs_once(tmp_path: Path) -> None:
    of = config(seeds=2)
    calls = []

    def run(seeds: Sequence[int]) -> StudyResult:
        calls.append(list(seeds))
        return StudyResult(tmp_path)

    run_looks(of, run, lambda line: None)
    assert calls == [[]]
    assert seeds_so_far(of, tmp_path) == [0, 1]


def test_a_damaged_record_says_what_to_do(tmp_path: Path) -> None:
    record_looks(tmp_path, [Look(replicates=5)])
    text = (tmp_path / "looks.json").read_text()
    (tmp_path / "looks.json").write_text(text.replace('"replicates"', '"replicas"'))
    with pytest.raises(RunDirectoryError, match=r"looks\.json"):
        seeds_so_far(study(use="Raises"), tmp_path)
