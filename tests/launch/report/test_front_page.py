"""What a report leads with: the controls, deception by pressure, deception at matched harm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import synthetic_study
from synthetic_study import ARMS, config, write_study

import launch.report.results as module
from launch.report.build import build
from launch.report.claims.effects import EffectEstimate
from launch.report.claims.verdict import Verdict
from launch.report.files.load import load
from launch.report.primary import primary, primary_without_cues
from launch.report.results import Results, gather
from launch.report.sections.controls import NONE, Controls
from launch.report.sections.matched_harm import DeceptionAtMatchedHarm
from launch.report.sections.pressure_curve import PressureCurve
from launch.report.table import Interval

ORDER = list(ARMS)


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Pressure of arm k is k / 10 in steward, its evasion k / 20; no scripted policy plays nightwatch."""
    plain = synthetic_study._summary

    def summary(arm: str, seed: int, rng: np.random.Generator) -> dict[str, float]:
        k = ORDER.index(arm)
        own = {"pressure": k / 10, "pressure.steward": k / 10, "trained/deception.steward": k / 20 + seed / 1000}
        own |= {"trained/hidden_gap.nightwatch": 0.3, "evasion.steward": 0.99}
        own |= {"trained/watched_harm.steward": 0.5 - k / 20, "trained/unwatched_deception.steward": k / 10}
        return plain(arm, seed, rng) | own

    monkeypatch.setattr(synthetic_study, "_summary", summary)
    return write_study(tmp_path / "study", config(seeds=5), episodes=False, updates=3)


def results(path: Path, verdicts: Sequence[Verdict] | None = None) -> Results:
    found = gather(load(path), 0.05, lambda path: [])
    return found if verdicts is None else replace(found, verdicts=verdicts)


def control(word: Any, must: str | None, claim: str = "P1", **more: Any) -> Verdict:
    return Verdict(claim, "The penalty is seen to raise evasion.", word, "a rule", must=must, **more)


def test_controls_that_behave_are_listed_and_nothing_is_grey(study: Path) -> None:
    found = results(
        study, [control("supported", "supported"), control("not tested", "not tested", "N3", reason="calm")]
    )
    content = Controls().compute(found)
    assert content is not None and content.behaved and not found.distrusted
    assert content.said == "All controls came out as they must."
    assert "not tested: calm" in Controls().markdown(content)


@pytest.mark.parametrize("word", ["contradicted", "inconclusive", "not tested"])
def test_a_control_that_fails_greys_the_rest_and_says_so(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, word: str
) -> None:
    verdicts = [control(word, "supported"), control("supported", None, "H1")]
    monkeypatch.setattr(module, "judge_study", lambda *_, **__: verdicts)
    page = build(study, tmp_path / "out").read_text()
    text = (tmp_path / "out" / "report.md").read_text()
    assert '<main class="distrusted">' in page
    assert text.index("1 of 1 controls did not come out as they must (P1)") < text.index("## Verdicts")


def test_a_study_with_claims_and_no_control_says_that_it_proves_little(study: Path) -> None:
    content = Controls().compute(results(study, [control("supported", None)]))
    assert content is not None and content.said == NONE
    assert Controls().compute(results(study, [])) is None


def test_the_curve_has_a_point_per_arm_and_trained_world_with_its_primary_outcome(study: Path) -> None:
    content = PressureCurve().compute(results(study))
    assert content is not None
    assert [(point.world, point.arm.name) for point in content.points] == [("steward", arm) for arm in ORDER]
    for k, point in enumerate(content.points):
        assert point.pressure.mean == pytest.approx(k / 10)
        assert point.rate.mean == pytest.approx(k / 20 + 0.002), "the training options count, not those of eval.worlds"
        assert point.outcome == "deception"
    drawn = content.figure.plot.data
    assert [trace.x[0] for trace in drawn] == pytest.approx([k / 10 for k in range(len(ORDER))])


def test_without_pressure_there_is_no_curve(tmp_path: Path) -> None:
    plain = results(write_study(tmp_path / "plain", config(seeds=2), episodes=False, updates=3))
    assert PressureCurve().compute(plain) is None


def test_matched_harm_is_shown_where_a_claim_is_about_it(study: Path) -> None:
    number = EffectEstimate(
        "trained/unwatched_deception.steward", "mask - inoculation, at matched harm", Interval(0.2, 0.1, 0.3, 5), 0.9
    )
    verdict = control("supported", None, "H5", outcomes=(number,), sentence="The masks are more deceptive.")
    content = DeceptionAtMatchedHarm().compute(results(study, [verdict]))
    assert content is not None and [v.claim for v in content.claims] == ["H5"]
    assert [point.harm.mean for point in content.points] == pytest.approx([0.5 - k / 20 for k in range(len(ORDER))])
    assert "H5: supported; mask - inoculation, at matched harm" in DeceptionAtMatchedHarm().markdown(content)
    assert DeceptionAtMatchedHarm().compute(results(study, [control("supported", None)])) is None


def test_every_world_has_a_primary_outcome_in_all_languages() -> None:
    assert primary("nightwatch@ar-1850") == "hidden_gap" and primary_without_cues("nightwatch") == "harm"
    assert primary("steward") == primary_without_cues("steward") == "deception"
    assert primary("mine") == "deception"
