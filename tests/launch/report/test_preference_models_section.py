"""The section Preference models: tables of accuracy, and the power laws of errors."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest

from launch.report.results import ArmView
from launch.report.sections.base import Part
from launch.report.sections.training.preference_models import Model, PreferenceModels, law_cells, law_of, model_of
from launch.report.table import Interval


def models(sizes: tuple[int, ...], counts: tuple[int, ...]) -> list[Model]:
    """Errors of 10 N^-.2 D^-.1."""
    return [Model(n, d, 1000, 1 - 10 * n**-0.2 * d**-0.1) for n in sizes for d in counts]


def test_the_law_has_the_exponents_of_what_varies() -> None:
    both, one = law_of(models((10**5, 10**6), (100, 1000))), law_of(models((10**6,), (100, 1000, 10_000)))
    assert both is not None and one is not None
    assert both.exponents == pytest.approx({"parameters": 0.2, "examples": 0.1})
    assert law_cells(both)[1:] == ("0.200 [0.200, 0.200]", "0.100 [0.100, 0.100]", "1.00", "4")
    assert law_cells(one)[1:3] == ("does not vary", "0.100 [0.100, 0.100]")


def test_there_is_no_law_without_points_or_of_quantities_that_vary_together() -> None:
    assert law_of(models((10**5,), (100,))) is None
    assert law_of([Model(n, n / 10, 100, 0.7) for n in (1000.0, 2000.0, 4000.0)]) is None


def run(accuracy: Any, **changes: Any) -> Any:
    found = {"parameters": 1000, "examples": 10, "measured": {"pairs": 100, "accuracy": accuracy}} | changes
    return SimpleNamespace(result={"preference_model": found})


@pytest.mark.parametrize("found", [run("0.7"), run(1.5), run(0.7, parameters=-1), run(0.7, measured=[])])
def test_what_is_no_measurement_is_left_out(found: Any) -> None:
    assert model_of(found) is None
    assert model_of(run(0.7)) == Model(1000, 10, 100, 0.7)


def content(runs: dict[str, list[Any]]) -> Any:
    views = [ArmView(name, name, "control", "#000000", len(own)) for name, own in runs.items()]
    cell = Interval(0.2, math.nan, math.nan, 1)
    study = SimpleNamespace(of=runs.__getitem__, arms={name: SimpleNamespace(label="<i>x</i>|") for name in runs})
    cells = {name: {"preference_ece": cell} for name in runs}
    return PreferenceModels().compute(SimpleNamespace(study=study, shown=views, cells=cells))  # type: ignore[arg-type]


def test_the_tables_have_a_row_per_size_and_escape_what_others_wrote() -> None:
    found = content(
        {"a+point=large": [run(0.9, parameters=3000), run(0.8, parameters=3000)], "a+point=small": [run(0.7)]}
    )
    assert [row[1:4] for row in found.rows] == [["1,000", "10", "0.700"], ["3,000", "10", "0.850 [0.215, 1.485]"]]
    assert found.rows[0][4:] == ["–", "–", "0.200", "1"] and len(found.law_rows) == 1
    part = Part(PreferenceModels(), found)
    assert "<i>x" not in str(part.html()) and "<i>x" not in part.markdown()
    assert "0.850" in str(part.html()) and "0.850" in part.markdown()


def test_studies_of_agents_have_no_such_section() -> None:
    assert content({"a": [SimpleNamespace(result={})]}) is None
