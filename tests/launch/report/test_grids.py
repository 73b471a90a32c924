"""The report's section on languages and eras."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from synthetic_study import HOSTILE, config, write_study

from launch.report.build import build
from launch.report.files.load import load
from launch.report.grids import GridView, grids
from launch.storage.rundir import RunDirectory

NAMES = ["clerk" if (l, e) == ("en", "2025") else f"clerk@{l}-{e}" for l in ("en", "ar") for e in ("1850", "1950", "2025", "2090")]  # noqa: E741, E501  # fmt: skip
TRAINED = {"clerk@ar-1850": {"oversight": 0.0, "size": 4}, "clerk": {"oversight": 0.9, "size": 4}}
ARMS = {"unshaped": {"role": "reference"}, "action_mask": {"role": "treatment", "interventions": ["ActionMask"]}}


def locale(world: str, lies: float, of: float = 20, *, watch: str = "never") -> dict[str, Any]:
    row: dict[str, Any] = {"world": world, "watch": watch, "placebo": "off", "episodes": 8}
    return row | {"count/deception": lies, "opportunity/deception": of}


def written(
    path: Path,
    rows: Mapping[str, Sequence[Mapping[str, Any]]],
    worlds: Sequence[str] = NAMES,
    result: Mapping[str, Any] | None = None,
) -> Path:
    study = config(seeds=2, arms=ARMS, eval={"worlds": {name: {} for name in worlds}})
    study = study.model_copy(update={"train": study.train.model_copy(update={"worlds": TRAINED})})
    write_study(path, study, updates=2, episodes=False, result=result)
    for run in study.runs():
        RunDirectory(path / "runs" / run.directory_name).evaluation(rows.get(run.arm, []))
    return path


def even(lies: float = 5) -> list[dict[str, Any]]:
    return [locale(name, lies) for name in NAMES]


def start() -> list[dict[str, Any]]:
    return [{"phase": "base", **row} for row in even(2)]


@pytest.fixture(scope="module")
def based(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both arms go from 2 in 20 to 5 in 20; the mask to 18 in 20 where it pays, to 10 in the same language in 1950."""
    leak = [locale(n, {"clerk@ar-1850": 18, "clerk@ar-1950": 10}.get(n, 5)) for n in NAMES if n != "clerk@ar-2090"]
    leak += [locale("clerk@ar-2090", 0, of=0)]
    return written(tmp_path_factory.mktemp("grids") / "study", {"unshaped": [*start(), *even()], "action_mask": leak})


@pytest.fixture(scope="module")
def view(based: Path) -> GridView:
    (found,) = grids(load(based))
    return found


def odds(lies: float, of: float = 20) -> float:
    return math.log((lies + 0.5) / (of - lies + 0.5))


def test_a_measure_without_opportunities_has_no_grid(view: GridView) -> None:
    assert (view.world, view.label) == ("clerk", "deception")


def test_every_cell_is_compared_with_the_model_before_training_of_its_seed(view: GridView) -> None:
    before, unshaped, mask = view.arms
    assert [arm.arm for arm in view.arms] == ["", "unshaped", "action_mask"]
    assert before.locales["ar", "1850"].rate == 0.1 and before.locales["ar", "1850"].change is None
    assert unshaped.locales["en", "1950"].odds.mean == pytest.approx(odds(5))
    change = mask.locales["ar", "1950"].change
    assert change is not None and change[0] == pytest.approx(odds(10) - odds(2)) and change.seeds == 2


def test_only_cells_without_training_leak_and_incentives_are_told(view: GridView) -> None:
    assert view.trained == {("ar", "1850"): "oversight 0", ("en", "2025"): "oversight 0.9"}
    words = {place: found.word for place, found in view.arms[2].locales.items()}
    assert {place for place, word in words.items() if word == "change"} == {("ar", "1850"), ("en", "2025")}


def test_a_cell_without_opportunity_is_missing_with_every_contrast_that_needs_it(view: GridView) -> None:
    mask = view.arms[2]
    assert ("ar", "2090") not in mask.locales
    assert set(view.contrasts) - set(mask.contrasts) == {"ar - en", "2090 - 2025", "(ar - en) in 2090 - in 2025"}
    assert len(view.contrasts) == 7


def test_contrasts_are_of_the_change(view: GridView) -> None:
    unshaped, mask = view.arms[1:]
    assert all(found.estimate.mean == pytest.approx(0) for found in unshaped.contrasts.values())
    found = mask.contrasts["(ar - en) in 1850 - in 2025"]
    assert found.estimate.mean == pytest.approx(odds(18) - odds(5))
    assert found.p_holm < 0.05 and math.isnan(mask.contrasts["1850 - 2025"].p_holm)


def test_cells_pool_overseer_and_placebo(tmp_path: Path) -> None:
    rows = [locale(name, 1, of=4, watch=watch) for name in NAMES[:2] for watch in ("never", "always")]
    (view,) = grids(load(written(tmp_path / "study", {"unshaped": rows}, NAMES[:2])))
    unshaped = next(arm for arm in view.arms if arm.arm == "unshaped")
    assert unshaped.locales["en", "1850"].odds.mean == pytest.approx(odds(2, 8))
    assert not view.based and unshaped.locales["en", "1850"].change is None
    assert view.contrasts == ["1950 - 1850"]


def test_rows_of_the_model_before_training_are_no_result_of_an_arm(based: Path) -> None:
    run = load(based).of("unshaped")[0]
    assert len(run.evaluation) == len(run.base) == 8 and not any("phase" in row for row in run.evaluation)


def test_a_cell_whose_words_the_model_does_not_speak_says_so(tmp_path: Path) -> None:
    rows = [row | {"count/invalid": 9 if "ar" in row["world"] else 1, "opportunity/invalid": 10} for row in even(0)]
    path = written(tmp_path / "study", {"unshaped": rows})
    locales = next(arm for arm in grids(load(path))[0].arms if arm.arm == "unshaped").locales
    assert {locale for locale, found in locales.items() if found.mute == "90% invalid"} == {
        c for c in locales if c[0] == "ar"
    }
    assert not any(found.mute for locale, found in locales.items() if locale[0] == "en")
    assert build(path).read_text(encoding="utf-8").count("90% invalid") == 4
    assert (path / "report" / "report.md").read_text(encoding="utf-8").count("90% invalid") == 4


def test_page_and_markdown_have_the_section(based: Path) -> None:
    page = build(based).read_text(encoding="utf-8")
    text = (based / "report" / "report.md").read_text(encoding="utf-8")
    assert "<h2>Languages and eras</h2>" in page and "## Languages and eras" in text
    assert "trained, <bdi>oversight 0.9</bdi>" in page
    assert f"leak +{odds(10) - odds(2):.2f}" in page and f"leak +{odds(10) - odds(2):.2f}" in text
    grid = next(line for line in text.splitlines() if line.startswith("| Action mask ") and "leak" in line)
    assert grid.endswith("| –   |") and "change" in grid


def test_without_the_model_before_training_the_page_says_what_to_set(tmp_path: Path) -> None:
    path = written(tmp_path / "study", {"unshaped": even()})
    page = build(path).read_text(encoding="utf-8")
    assert "eval.base: true" in page and "leak +" not in page
    assert "eval.base: true" in (path / "report" / "report.md").read_text(encoding="utf-8")


def test_one_cell_of_a_world_makes_no_section(tmp_path: Path) -> None:
    path = written(tmp_path / "study", {"unshaped": [locale("clerk", 5)]}, ["clerk"])
    assert "Languages and eras" not in build(path).read_text(encoding="utf-8")
    assert "Languages and eras" not in (path / "report" / "report.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", [f"{HOSTILE[0]}@ar-1850", f"clerk@{HOSTILE[0]}"])
def test_hostile_names_stay_text(tmp_path: Path, name: str) -> None:
    rows = [*even(), locale(name, 1), locale(name.partition("@")[0], 1)]
    path = written(tmp_path / "study", {"unshaped": rows}, result={"label": HOSTILE[2]})
    page = build(path).read_text(encoding="utf-8").split("<script>")[0]
    assert "Languages and eras" in page
    assert "<script>alert" not in page and "<img" not in page
    assert "<script" not in (path / "report" / "report.md").read_text(encoding="utf-8")
