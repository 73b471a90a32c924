"""The table of docs/monitors.md is that of the cards that are kept beside it."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def render() -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT))
        return importlib.import_module("docs.render_monitors")


def test_the_page_has_the_figures_of_the_cards(render: ModuleType) -> None:
    page = render.PAGE.read_text(encoding="utf-8")
    assert render.rendered(page) == page, "write it again with `python -m docs.render_monitors`"


def test_three_worlds_have_cards_and_ground_truth_is_right_in_all(render: ModuleType) -> None:
    cards = render.cards()
    assert {card.world for card in cards} == {"clerk", "steward", "pact"}
    truths = [trait for card in cards if card.monitor == "ground_truth" for trait in card.traits]
    assert len(truths) > 10 and all(trait.auroc.value == 1.0 for trait in truths)
    assert not any(str(ROOT) in str(card.settings) for card in cards)
