"""The table of gates in docs/organisms.md is that of the shipped organisms' cards."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import pytest

from shaping.organisms.gates.store import gates_of
from shaping.organisms.shipped import COUNT, shipped

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def render() -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT))
        return importlib.import_module("docs.render_gates")


def test_the_page_has_the_gates_of_the_cards(render: ModuleType) -> None:
    page = render.PAGE.read_text(encoding="utf-8")
    assert render.rendered(page) == page, "write it again with `python -m docs.render_gates`"


@pytest.mark.parametrize("world", ["steward", "pact"])
@pytest.mark.parametrize("number", range(COUNT))
def test_organisms_pass_in_the_worlds_that_studies_rest_on(number: int, world: str) -> None:
    known = gates_of(shipped(number))
    assert known is not None, "its card has no gates of these worlds: run `shaping check-model`"
    assert all(known.worlds[world].gates[gate].passed for gate in ("M1", "M2", "M3", "M4", "M5", "M6"))
