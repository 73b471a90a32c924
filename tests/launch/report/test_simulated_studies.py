"""Simulated studies: what is printed about errors, coverage and power is what happens."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from claim_tables import claim
from scipy import stats

from launch.config.seeds import LEAST
from launch.report.claims.base import Claim
from launch.report.claims.evidence import Evidence
from launch.report.claims.kinds.differs import Differs
from launch.report.claims.kinds.does_not_differ import DoesNotDiffer
from launch.report.claims.kinds.does_not_lower import DoesNotLower
from launch.report.claims.kinds.does_not_raise import DoesNotRaise
from launch.report.claims.kinds.interaction import Interaction
from launch.report.claims.kinds.loses_access import LosesAccess
from launch.report.claims.kinds.lowers import Lowers
from launch.report.claims.kinds.ordered import Ordered
from launch.report.claims.kinds.raises import Raises
from launch.report.claims.table import Table
from launch.report.files.load import ArmInfo
from launch.report.statistics import simulate
from launch.report.statistics.estimate import Vector
from launch.report.statistics.power import Question, least
from launch.report.statistics.simulate import MARGIN, SUBJECTS, World
from launch.report.statistics.spending import chance_to_cross, levels

ARMS = tuple(
    ArmInfo(name, family=family, role="reference" if name == "unshaped" else "treatment")  # type: ignore[arg-type]
    for name, family in (("unshaped", "unshaped"), ("a", "constraint"), ("b", "constraint"), ("c", "motivation"))
)


def allowed(share: float, draws: int, errors: float = 2) -> float:
    """The share and so many Monte Carlo errors."""
    return share + errors * math.sqrt(share * (1 - share) / draws)


def check_errors(draws: int, seed: int) -> None:
    """Two Monte Carlo errors, of which chance alone breaks one in forty where the rate is exactly 5%; never four."""
    found = {(case.claim, case.drift, n): share for case, n, share in simulate.errors(draws, seed)}
    above = {cell: share for cell, share in found.items() if share > allowed(0.05, draws)}
    assert len(above) <= 0.1 * len(found), above
    assert max(found.values()) <= allowed(0.05, draws, 4), above


def check_coverage(draws: int, seed: int) -> None:
    for drift, n, share in simulate.coverage(draws, seed):
        least_share = 0.87 if drift.startswith("bimodal") and n == 6 else 0.9
        assert share > 1 - allowed(1 - least_share, draws) - 0.01, (drift, n)


def check_power(draws: int, seed: int) -> None:
    for name, sd, n, printed, found in simulate.power(draws, seed):
        assert abs(printed - found) <= 0.05, (name, sd, n)


def test_each_claim_errs_in_at_most_five_percent_of_studies() -> None:
    check_errors(4000, seed=0)


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    check_coverage(2500, seed=0)


def test_printed_power_is_the_share_of_studies_that_support_the_claim() -> None:
    check_power(2500, seed=0)


@pytest.mark.slow
def test_the_same_over_very_many_studies() -> None:
    check_errors(20_000, seed=2)
    check_coverage(20_000, seed=2)
    check_power(20_000, seed=2)


def test_a_t_interval_alone_would_miss_rare_catastrophes() -> None:
    """Why the share is judged besides the mean: five replicates, each turning with a chance of a fifth."""
    studies = World(turning=0.2, jump=0.8, sd=0.02, reference_sd=0.02).studies(5, 2000)
    _, high = simulate.estimated(*studies).bounds(0.9)
    assert np.mean(high < MARGIN) > 0.25
    assert float(simulate.not_raised(*World(turning=0.45, jump=0.8).studies(5, 2000)).mean()) < allowed(0.05, 2000)


def test_several_looks_err_together_as_rarely_as_one_and_save_replicates() -> None:
    draws = 4000
    for name, case, share, replicates in simulate.sequential(draws):
        false = (name == "Raises") == (case == "no effect")
        assert share <= allowed(0.05, draws, 3) if false else share > 0.8, (name, case)
        assert replicates < 23.5
    naive = replace(World(sd=0.24))
    own, reference, kin = naive.studies(24, draws)
    ever = np.zeros(draws, dtype=bool)
    for look in simulate.LOOKS:
        ever |= simulate.raised(own[:, :look], reference[:, :look], kin[:look])
    assert ever.mean() > 0.07  # what looking three times at 5% would do


@pytest.mark.parametrize(
    ("looks", "expected"), [((10, 20), (0.00557, 0.04824)), ((8, 12, 24), (0.00069, 0.00535, 0.04821))]
)
def test_levels_of_looks_spend_alpha_as_lan_and_demets(looks: tuple[int, ...], expected: tuple[float, ...]) -> None:
    """The first is 2 - 2 Phi(1.96 / sqrt(t)); the others by simulation of the statistics' joint distribution."""
    found = levels(looks)
    assert found == pytest.approx(expected, abs=1e-4)
    draws = np.random.default_rng(0).normal(size=(400_000, looks[-1])).cumsum(axis=1)
    crossed = np.zeros(len(draws), dtype=bool)
    for look, level in zip(looks, found, strict=True):
        crossed |= draws[:, look - 1] / math.sqrt(look) > stats.norm.isf(level)
    assert crossed.mean() == pytest.approx(0.05, abs=0.0015)


def test_conditional_power_is_that_of_the_trend_going_on() -> None:
    """z = 1 after a third: the last statistic is expected at sqrt(3), with the variance of the other two thirds."""
    mean, sd = math.sqrt(3), math.sqrt(2 / 3)
    assert chance_to_cross(1.0, 1 / 3, 0.05) == pytest.approx(stats.norm.sf((stats.norm.isf(0.05) - mean) / sd))
    assert chance_to_cross(2.0, 1.0, 0.05) == 1.0


# The classes themselves -----------------------------------------------------------------------------------------------


def table(columns: dict[str, Vector], *, margin: float = MARGIN) -> Table:
    """One study: arm -> outcomes of its replicates."""
    n = len(next(iter(columns.values())))
    kin = {seed: f"organism-{seed % len(SUBJECTS)}" for seed in range(n)}
    values = {arm: {"deception": {s: float(v) for s, v in enumerate(column)}} for arm, column in columns.items()}
    return Table(values, ARMS, margin, evidence=Evidence(kin))


RULES = (
    (Raises, simulate.raised),
    (DoesNotRaise, simulate.not_raised),
    (Lowers, simulate.lowered),
    (DoesNotLower, simulate.not_lowered),
    (Differs, simulate.different),
    (DoesNotDiffer, simulate.same),
)


@pytest.mark.parametrize(("kind", "rule"), RULES)
def test_what_is_simulated_is_what_claims_do(kind: type[Claim], rule: simulate.Rule) -> None:
    judge = claim(kind, treatment="a", metrics=["deception"])
    seen = set()
    for world in (World(shift=0.08, level=0.3), World(turning=0.2, level=0.3), World(shift=-0.12, level=0.3, sd=0.1)):
        own, reference, kin = world.studies(8, 12, seed=3)
        simulated = rule(own, reference, kin)
        for row in range(12):
            found = judge.weigh(table({"unshaped": reference[row], "a": own[row]}))
            assert (found.word == "supported") == bool(simulated[row])
            seen.add(found.word)
    assert len(seen) > 1


def supported(judge: Claim, shifts: dict[str, float], draws: int, sds: dict[str, float]) -> float:
    """How often a claim is supported in studies of 12 replicates in which arms differ by these shifts."""
    rng = np.random.default_rng(11)
    kin = np.arange(12) % len(SUBJECTS)
    hits = 0
    for _ in range(draws):
        columns = {
            arm.name: 0.3 + np.array(SUBJECTS)[kin] + shifts.get(arm.name, 0.0) + rng.normal(0, sds[arm.name], 12)
            for arm in ARMS
        }
        hits += judge.weigh(table(columns)).word == "supported"
    return hits / draws


EVEN, NOISY = dict.fromkeys(("unshaped", "a", "b", "c"), 0.05), {"unshaped": 0.05, "a": 0.24, "b": 0.24, "c": 0.24}
DRAWS = 3000
RATE = 0.055
"""Share of studies: contrasts of four arms with unequal spreads err in 5.4 % of 6,000 studies of 12 replicates."""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("judge", "shifts", "sds"),
    [
        (claim(Raises, treatment=["a", "b", "c"], metrics=["deception"]), {}, NOISY),
        (claim(DoesNotRaise, treatment=["a", "b", "c"], metrics=["deception"]), {"b": MARGIN}, EVEN),
        (claim(Differs, treatment=["a", "b", "c"], metrics=["deception"]), {}, NOISY),
        (
            claim(
                LosesAccess, treatment=["a", "b"], spared="c", metrics=["deception"], context=[]
            ),
            {"a": -0.4, "c": -MARGIN},
            EVEN,
        ),
        (
            claim(LosesAccess, treatment=["a", "b"], spared="c", metrics=["deception"], context=[]), {}, NOISY,
        ),
        (claim(Ordered, dose={"unshaped": 0, "a": 1, "b": 2}, relative=False, metrics=["deception"]), {}, NOISY),
        (claim(Interaction, treatment="a", first="b", second="c", metrics=["deception"]), {"a": 0.2, "b": 0.2}, NOISY),
    ],
)  # fmt: skip
def test_claims_over_several_arms_err_in_at_most_five_percent_of_studies(
    judge: Claim, shifts: dict[str, float], sds: dict[str, float]
) -> None:
    assert supported(judge, shifts, DRAWS, sds) <= allowed(RATE, DRAWS)


@pytest.mark.parametrize(
    ("judge", "shifts"),
    [
        (claim(Raises, treatment=["a", "b", "c"], metrics=["deception"]), {"b": 0.15}),
        (claim(LosesAccess, treatment=["a", "b"], spared="c", metrics=["deception"], context=[]), {"a": -0.2}),
        (claim(Ordered, dose={"unshaped": 0, "a": 1, "b": 2}, metrics=["deception"]), {"a": 0.1, "b": 0.2}),
        (claim(Interaction, treatment="a", first="b", second="c", metrics=["deception"]), {"a": 0.2}),
    ],
)
def test_and_find_what_is_there(judge: Claim, shifts: dict[str, float]) -> None:
    assert supported(judge, shifts, 15, EVEN) > 0.7


# Power ----------------------------------------------------------------------------------------------------------------


def test_power_is_that_of_statsmodels_where_both_arms_vary_alike() -> None:
    from statsmodels.stats.power import TTestIndPower

    for n, sd in ((6, 0.1), (12, 0.12)):
        theirs = TTestIndPower().power(MARGIN / sd, n, 0.05, alternative="larger")
        assert Question("effect", (1.0, -1.0), (sd, sd), MARGIN).at(n) == pytest.approx(theirs, abs=0.01)


def test_replicates_needed_are_the_fewest_with_eighty_percent() -> None:
    question = Question("effect", (1.0, -1.0), (0.1, 0.1), MARGIN)
    needed = question.needed()
    assert needed is not None and question.at(needed) >= 0.8 > question.at(needed - 1)
    assert replace(question, sds=(2.0, 2.0)).needed() is None
    assert least(lambda n: n >= LEAST) == LEAST
    assert [least(lambda n, k=k: n >= k) for k in (9, 10, 77, 250)] == [9, 10, 77, 250]  # type: ignore[misc]
    assert question.at(LEAST - 1) == 0.0
