"""The table of docs/pressure.md is what the code computes now."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import pytest

from envs import WORLDS
from launch.run.evaluation.pressure import PressureGauge

ROOT = Path(__file__).resolve().parents[2]
AGAIN = "write it again with `python -m docs.render_pressure`"


@pytest.fixture(scope="module")
def render() -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT))
        return importlib.import_module("docs.render_pressure")


@pytest.mark.parametrize(
    "world",
    [world if world == "steward" else pytest.param(world, marks=pytest.mark.slow) for world in WORLDS],
)
def test_the_pressures_on_the_page_are_those_of_the_code(render: ModuleType, world: str) -> None:
    page = render.PAGE.read_text(encoding="utf-8").splitlines()
    assert [line for line in page if line.startswith(f"| `{world}` |")] == render.rows(world, PressureGauge()), AGAIN


def test_the_page_has_every_world_and_arm(render: ModuleType) -> None:
    text = render.PAGE.read_text(encoding="utf-8")
    assert "| world | honest share | " + " | ".join(render.ARMS) + " |" in text
    assert all(text.count(f"| `{world}` |") == len(render.SHARES) for world in WORLDS)
