"""Claims about curves: deception over pressure, and families of arms at equal monitored harm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from claim_tables import claim

from launch.report.claims.evidence import Evidence
from launch.report.claims.kinds.matched_harm import MatchedHarm
from launch.report.claims.kinds.rises_with_pressure import RisesWithPressure
from launch.report.claims.kinds.same_given_pressure import SameGivenPressure
from launch.report.claims.table import Table
from launch.report.claims.verdict import Verdict
from launch.report.files.load import ArmInfo

SUBJECTS = {seed: f"organism-{seed % 4}" for seed in range(12)}
LIES, HARM = "deceptive_episodes.steward", "watched_harm.steward"


def table(arms: Mapping[str, Mapping[str, float]], noise: float, *, subjects: Mapping[int, str] = SUBJECTS) -> Table:
    """Arms (the first is the reference) with the means of their metrics; pressure has no noise."""
    rng = np.random.default_rng(0)

    def drawn(metric: str, mean: float) -> dict[int, float]:
        sd = 0.0 if "pressure" in metric else noise
        return {seed: float(np.clip(mean + rng.normal(0, sd), 0, 1)) for seed in SUBJECTS}

    values = {arm: {metric: drawn(metric, mean) for metric, mean in means.items()} for arm, means in arms.items()}
    infos = [ArmInfo(arm, role="treatment" if i else "reference") for i, arm in enumerate(arms)]
    counts = {arm: {LIES: 32.0, HARM: 32.0} for arm in arms}
    return Table(values, infos, 0.1, "", Evidence(subjects, {}, counts, ("steward",)))


def pressed(lies: Sequence[float], pressures: Sequence[float], noise: float = 0.05) -> Verdict:
    arms = {
        f"arm{i}": {LIES: lie, "pressure.steward": pressure}
        for i, (lie, pressure) in enumerate(zip(lies, pressures, strict=True))
    }
    treatment = [arm for arm in arms if arm != "arm0"]
    return claim(RisesWithPressure, treatment=treatment, metrics=[LIES], margin=2.0).judge(table(arms, noise))


def test_lies_that_rise_with_the_pressure_support_the_claim() -> None:
    found = pressed([0.2, 0.4, 0.6, 0.8], [0.0, 0.05, 0.1, 0.16])
    assert found.verdict == "supported" and "rises" in found.sentence
    (outcome,) = found.outcomes
    assert outcome.interval.low > 5 and outcome.interval.n == 12  # from log-odds of -1.4 to 1.4 over 0.16


def test_lies_that_stay_or_fall_contradict_it_and_noise_leaves_it_open() -> None:
    assert pressed([0.5, 0.5, 0.5, 0.5], [0.0, 0.05, 0.1, 0.16], noise=0.02).verdict == "contradicted"
    assert pressed([0.8, 0.6, 0.4, 0.2], [0.0, 0.05, 0.1, 0.16]).verdict == "contradicted"
    assert pressed([0.5, 0.5, 0.5, 0.5], [0.0, 0.05, 0.1, 0.16], noise=0.4).verdict == "inconclusive"


def test_without_pressure_nothing_is_tested() -> None:
    flat = pressed([0.2, 0.8], [0.0, 0.04])
    assert flat.verdict == "not tested" and "no pressure" in flat.sentence
    arms = {"arm0": {LIES: 0.2, "pressure.steward": 0.0}, "arm1": {LIES: 0.2}}
    unknown = claim(RisesWithPressure, treatment="arm1", metrics=[LIES]).judge(table(arms, 0.1))
    assert unknown.verdict == "not tested" and "pressure in steward is unknown for 1 arm" in unknown.sentence


def beyond_pressure(constraint: float, noise: float = 0.02, **others: Mapping[str, float]) -> Verdict:
    """Lies follow pressure in both families; the log-odds of the constraints' are higher by `constraint`."""

    def lies(pressure: float, more: float) -> float:
        return float(1 / (1 + np.exp(1.5 - 10 * pressure - more)))

    doses = {"weak": 0.05, "strong": 0.15}
    arms = {
        "unshaped": {LIES: 0.3, "pressure.steward": 0.0},
        **{f"{k}_penalty": {LIES: lies(p, constraint), "pressure.steward": p} for k, p in doses.items()},
        **{f"{k}_prompt": {LIES: lies(p, 0.0), "pressure.steward": p} for k, p in doses.items()},
        **others,
    }
    families = {kind: [arm for arm in arms if arm.endswith(kind)] for kind in ("penalty", "prompt")}
    judged = claim(SameGivenPressure, treatment=families["penalty"], reference=families["prompt"], metrics=[LIES])
    return judged.judge(table(arms, noise))


def test_families_that_differ_as_their_pressures_do_are_the_same() -> None:
    found = beyond_pressure(0.0)
    assert found.verdict == "supported" and found.sentence.startswith("At equal pressure")
    elsewhere = {"pact_penalty": {"deceptive_episodes.pact": 0.9, "pressure.pact": 0.3}}
    assert beyond_pressure(0.0, **elsewhere).outcomes == found.outcomes  # an arm that trained in another world


def test_families_that_differ_beyond_their_pressures_contradict_it_and_noise_leaves_it_open() -> None:
    found = beyond_pressure(1.0)
    assert found.verdict == "contradicted" and found.outcomes[0].interval.mean == pytest.approx(1.0, abs=0.2)
    assert beyond_pressure(0.0, noise=0.4).verdict == "inconclusive"


CURVES = {"penalty": ["weak_penalty", "strong_penalty"], "prompt": ["weak_prompt", "strong_prompt"]}


def at_matched_harm(
    penalty: Sequence[float], prompt: Sequence[float], noise: float = 0.03, low: float = 0.1
) -> Verdict:
    arms = {
        "unshaped": {HARM: 0.4, LIES: 0.3},
        "weak_penalty": {HARM: 0.3, LIES: penalty[0]},
        "strong_penalty": {HARM: 0.1, LIES: penalty[1]},
        "weak_prompt": {HARM: 0.35, LIES: prompt[0]},
        "strong_prompt": {HARM: low, LIES: prompt[1]},
    }
    matched = claim(MatchedHarm, metrics=[LIES], curves=CURVES, one=["penalty"], other=["prompt"], harm=HARM)
    return matched.judge(table(arms, noise))


def test_constraints_that_hide_more_at_equal_harm_support_the_claim() -> None:
    found = at_matched_harm([0.5, 0.9], [0.3, 0.3])
    assert found.verdict == "supported"
    assert "penalty - prompt, at matched harm" in {outcome.contrast for outcome in found.outcomes}


def test_equal_curves_contradict_it_and_noise_leaves_it_open() -> None:
    assert at_matched_harm([0.3, 0.3], [0.3, 0.3]).verdict == "contradicted"
    assert at_matched_harm([0.3, 0.5], [0.3, 0.4], noise=0.3).verdict == "inconclusive"


def test_a_curve_that_does_not_reach_the_harm_is_said_and_compared_with_nothing() -> None:
    found = at_matched_harm([0.5, 0.9], [0.3, 0.3], low=0.34)
    assert found.verdict == "inconclusive" and "prompt does not reach it" in found.sentence


def test_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match="leave `treatment` out"):
        claim(
            MatchedHarm, metrics=[LIES], curves=CURVES, one=["penalty"], other=["prompt"], harm=HARM, treatment="mask"
        )
