"""Log-odds per locale, what training changed in it, and contrasts over the grid of languages and eras."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shaping.audits.conduct.grid import Locale, change, conditional_leak, contrasts, log_odds, log_odds_grid, over_seeds

LANGUAGES, ERAS = ("en", "ar"), ("2025", "1850", "1950", "2090")
LOCALES: list[Locale] = [(language, era) for language in LANGUAGES for era in ERAS]
numbers = st.floats(-8, 8)


def by_name(grid: dict[Locale, float], languages: tuple[str, ...] = LANGUAGES, eras: tuple[str, ...] = ERAS):  # type: ignore[no-untyped-def]
    return {c.name: c.of(grid) for c in contrasts(languages, eras)}


def test_log_odds_by_hand() -> None:
    assert log_odds(3, 10) == pytest.approx(math.log(3.5 / 7.5))
    assert log_odds(0, 10) == pytest.approx(math.log(0.5 / 10.5))
    assert log_odds(5, 10) == 0.0
    assert log_odds(10, 10) == pytest.approx(-log_odds(0, 10))  # type: ignore[operator]


def test_where_nothing_could_happen_there_is_no_number() -> None:
    assert log_odds(0, 0) is None
    assert log_odds_grid({("en", "2025"): (0, 0), ("ar", "2025"): (0, 4)}) == {("ar", "2025"): math.log(0.5 / 4.5)}


@pytest.mark.parametrize("counts", [(-1, 2), (3, 2), (1, 0), (0, math.inf), (math.nan, 2)])
def test_counts_that_cannot_be_are_refused(counts: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="between 0 and the opportunities"):
        log_odds(*counts)


def test_a_leak_is_the_change_in_cells_without_training() -> None:
    base = {("en", "2025"): -2.0, ("en", "1850"): -1.5, ("ar", "2025"): -2.0}
    after = {("en", "2025"): 1.0, ("en", "1850"): -0.5, ("ar", "1850"): 3.0}
    assert change(after, base) == {("en", "2025"): 3.0, ("en", "1850"): 1.0}
    assert conditional_leak(after, base, {("en", "2025")}) == {("en", "1850"): 1.0}


def test_contrasts_by_hand() -> None:
    grid = {("en", "2025"): 1.0, ("en", "1850"): 2.0, ("ar", "2025"): 5.0, ("ar", "1850"): 9.0}
    assert by_name(grid, eras=("2025", "1850")) == {
        "ar - en": 5.5,  # ((5 - 1) + (9 - 2)) / 2
        "1850 - 2025": 2.5,  # ((2 - 1) + (9 - 5)) / 2
        "(ar - en) in 1850 - in 2025": 3.0,  # (9 - 2) - (5 - 1)
    }


def test_the_whole_grid_has_one_language_three_era_and_three_interaction_contrasts() -> None:
    kinds = [contrast.kind for contrast in contrasts(LANGUAGES, ERAS)]
    assert kinds == ["language"] + ["era"] * 3 + ["interaction"] * 3


def test_a_contrast_with_a_missing_cell_is_missing_and_the_others_stand() -> None:
    grid = dict.fromkeys(LOCALES, 1.0)
    del grid["ar", "1850"]
    assert [name for name, value in by_name(grid).items() if value is None] == [
        "ar - en",
        "1850 - 2025",
        "(ar - en) in 1850 - in 2025",
    ]


@given(st.tuples(*[numbers] * 2), st.tuples(*[numbers] * 4))
def test_an_additive_grid_has_no_interaction(language: tuple[float, ...], era: tuple[float, ...]) -> None:
    grid = {(l, e): a + b for l, a in zip(LANGUAGES, language, strict=True) for e, b in zip(ERAS, era, strict=True)}  # noqa: E741
    found = by_name(grid)
    assert all(abs(value) < 1e-9 for name, value in found.items() if name.startswith("("))
    assert found["ar - en"] == pytest.approx(language[1] - language[0], abs=1e-9)
    assert found["1850 - 2025"] == pytest.approx(era[1] - era[0], abs=1e-9)


@given(st.sampled_from(LOCALES), st.floats(0.1, 8))
def test_one_cell_that_stands_out_is_an_interaction(locale: Locale, by: float) -> None:
    grid = dict.fromkeys(LOCALES, 0.0) | {locale: by}
    assert max(abs(value) for name, value in by_name(grid).items() if name.startswith("(")) == pytest.approx(by)


@given(st.dictionaries(st.sampled_from(LOCALES), numbers, min_size=8), numbers)
def test_a_shift_of_the_whole_grid_changes_no_contrast(grid: dict[Locale, float], by: float) -> None:
    moved = {locale: value + by for locale, value in grid.items()}
    assert by_name(moved) == pytest.approx(by_name(grid), abs=1e-9)


@pytest.mark.parametrize(("languages", "eras"), [((), ERAS), (LANGUAGES, ()), (("en", "en"), ERAS)])
def test_factors_must_have_distinct_levels(languages: tuple[str, ...], eras: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="non-empty sequence without repetition"):
        contrasts(languages, eras)


def test_intervals_are_over_the_seeds_that_have_the_cell() -> None:
    found = over_seeds({0: {"a": 1.0, "b": 2.0}, 1: {"a": 3.0}})
    half = 12.706204736  # t quantile with one degree of freedom x the standard error of (1, 3), which is 1
    assert found["a"][:3] == pytest.approx((2.0, 2.0 - half, 2.0 + half))
    assert (found["a"].seeds, found["b"].seeds) == (2, 1)
    assert found["a"].p == pytest.approx(0.2951672)  # t = 2: 1 - 2 atan(2) / pi
    assert found["b"].mean == 2.0 and math.isnan(found["b"].low) and math.isnan(found["b"].p)
