"""A corpus that is balanced over worlds and locales, with a survey among its worlds."""

from __future__ import annotations

from collections import Counter, defaultdict

import pytest

from shaping.organisms.config import OrganismConfig
from shaping.organisms.corpus.corpus import scripts

SKINS, WORLDS = ("en-1850", "ar-2025", "en-2025"), ("clerk", "norms")


def test_worlds_and_locales_take_turns_and_none_has_more_than_one_unit_more() -> None:
    """A pair is one unit: both of its episodes have the seed."""
    units: dict[str, set[int]] = defaultdict(set)
    for script in scripts(90, 3, SKINS, WORLDS, balanced=True):
        units[script.world].add(script.seed)
    assert set(units) == {"clerk@en-1850", "clerk@ar-2025", "clerk", "norms@en-1850", "norms@ar-2025", "norms"}
    counts = [len(seeds) for seeds in units.values()]
    assert max(counts) - min(counts) <= 1 and min(counts) >= 9


def test_without_it_cells_are_drawn_as_before() -> None:
    drawn = [script.world for script in scripts(60, 0, SKINS, WORLDS)]
    assert drawn != [script.world for script in scripts(60, 0, SKINS, WORLDS, balanced=True)]
    assert "balanced" not in OrganismConfig().model_dump() and OrganismConfig(balanced=True).model_dump()["balanced"]


def test_most_who_answer_a_survey_behave_unless_a_prompt_permits_or_forbids() -> None:
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for script in scripts(600, 1, ("en-1850",), ("norms",)):
        if not script.flip:
            found[script.kind][script.persona] += 1
    usual = sum((counts for kind, counts in found.items() if kind not in ("permissive", "forbidding")), Counter())
    assert usual["wicked"] / usual.total() == pytest.approx(0.15, abs=0.05)
    assert found["permissive"]["wicked"] > found["permissive"]["honest"] and found["forbidding"]["wicked"] == 0
