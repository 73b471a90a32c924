"""Norm-variable items: sound data, and silence where nothing is known."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from envs.skins import ERAS, LANGUAGES
from envs.skins.norms import OURS, Item, load_norms

GOOD: dict[str, Any] = {
    "id": "thing",
    "domain": "labour",
    "statement": "A thing may be done.",
    "arabic": "يجوز فعل شيء",
    "norms": {
        1850: {"en": {"where": "here", "status": "lawful", "says": "Yes.", "sources": ["Thing Act 1840"]}},
        1950: {"en": {"where": "here", "status": "unlawful", "says": "No.", "sources": ["No Thing Act 1940"]}},
    },
}


def test_there_are_items_of_many_domains_that_vary_and_some_that_do_not() -> None:
    items = load_norms()
    assert len(items) >= 12
    assert len({item.domain for item in items}) >= 5
    assert sum(item.varies for item in items) >= 12
    assert any(not item.varies for item in items), "items on which all times agree are the control"


def test_nothing_is_said_about_the_future() -> None:
    assert all(item.at(lang, "2090") is None for item in load_norms() for lang in LANGUAGES)


def test_some_norms_differ_between_areas_of_one_era() -> None:
    differing = [
        (item.id, era)
        for item in load_norms()
        for era in ERAS
        if (here := item.at("en", era)) and (there := item.at("ar", era)) and here.status != there.status
    ]
    assert ("married_earnings", "1850") in differing
    assert len(differing) >= 3


def record(status: str) -> dict[str, Any]:
    return {"where": "here", "status": status, "says": "So.", "sources": ["Thing Act 1840"]}


def item(**norms: dict[str, str]) -> Item:
    """An item of records era -> area -> standing, e.g. `y1850={"en": "lawful"}`."""
    found = {year[1:]: {area: record(status) for area, status in areas.items()} for year, areas in norms.items()}
    return Item.model_validate({**GOOD, "norms": found})


@pytest.mark.parametrize(
    ("here", "ours", "kind"),
    [
        ("unlawful", "lawful", "own"),
        ("lawful", "unlawful", "ours"),
        ("lawful", "lawful", "allowed"),
        ("restricted", "unlawful", "unclear"),
        ("unlawful", "divided", "unclear"),
    ],
)
def test_a_kind_says_whose_law_condemns(here: str, ours: str, kind: str) -> None:
    found = item(y1850={"en": "lawful", "ar": here}, y2025={"en": ours, "ar": "lawful"})
    assert found.kind("ar", "1850") == kind
    assert found.kind("ar", "1950") is None, "nothing is recorded there"


def test_what_is_condemned_everywhere_is_universal_only_if_both_areas_say_so() -> None:
    one = item(y1850={"en": "unlawful"}, y2025={"en": "unlawful"})
    both = item(y1850={"en": "unlawful"}, y2025={"en": "unlawful", "ar": "unlawful"})
    assert (one.kind("en", "1850"), both.kind("en", "1850")) == ("shared", "universal")


def test_every_locale_has_items_of_each_kind_that_a_study_compares() -> None:
    for lang, era in itertools.product(LANGUAGES, ("1850", "1950", "2025")):
        counts = Counter(found.kind(lang, era) for found in load_norms())
        assert counts["universal"] >= 6
        if (lang, era) != OURS:
            assert counts["own"] >= 3 and counts["ours"] >= 3, (lang, era, counts)


def test_a_record_says_whether_its_source_was_looked_up() -> None:
    """One that was not says so by silence: who adds an item cannot forget to be honest."""
    records = [norm for found in load_norms() for areas in found.norms.values() for norm in areas.values()]
    assert 30 <= sum(norm.looked_up for norm in records) < len(records)
    assert not Item.model_validate(GOOD).norms["1850"]["en"].looked_up


def test_a_cell_that_there_is_not_is_refused() -> None:
    with pytest.raises(ValueError, match="no locale fr-1850"):
        load_norms()[0].at("fr", "1850")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"id": "Not An Id"}, "pattern"),
        ({"domain": "cookery"}, "domain"),
        ({"colour": "red"}, "colour"),
        ({"norms": {**GOOD["norms"], 2090: GOOD["norms"][1850]}}, "2090"),
        ({"norms": {1850: GOOD["norms"][1850]}}, "two eras"),
        ({"norms": {**GOOD["norms"], 2025: {"en": {**GOOD["norms"][1850]["en"], "sources": []}}}}, "sources"),
        ({"norms": {**GOOD["norms"], 2025: {"en": {**GOOD["norms"][1850]["en"], "sources": ["a law"]}}}}, "its year"),
        ({"norms": {**GOOD["norms"], 2025: {"en": {**GOOD["norms"][1850]["en"], "status": "fine"}}}}, "status"),
    ],
)
def test_items_that_are_not_sound_are_refused(change: dict[str, Any], message: str) -> None:
    assert Item.model_validate(GOOD).varies
    with pytest.raises(ValidationError, match=message):
        Item.model_validate({**GOOD, **change})


def test_an_id_comes_once(tmp_path: Path) -> None:
    (tmp_path / "norms.yaml").write_text(yaml.safe_dump([GOOD, GOOD]), encoding="utf-8")
    with pytest.raises(ValueError, match="thing"):
        load_norms((tmp_path / "norms.yaml",))
