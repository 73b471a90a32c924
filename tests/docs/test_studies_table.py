"""The table of studies in docs/results/README.md: a row for every bundled study, from what is committed."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from launch.config.loading import bundled_studies, load_study

ROOT = Path(__file__).resolve().parents[2]
LARGEST = 2_000_000
"""Bytes of a committed file of results."""


@pytest.fixture(scope="module")
def render() -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT))
        return importlib.import_module("docs.render_studies")


def test_it_is_that_of_the_studies_and_results(render: ModuleType) -> None:
    text = render.PAGE.read_text(encoding="utf-8")
    assert render.rendered(text) == text, "write it again with `python -m docs.render_studies`"
    rows = [
        line for line in text.partition("<!-- studies -->")[2].partition("<!-- /")[0].splitlines() if "`shaping" in line
    ]
    assert {row.split("`")[1] for row in rows} == set(bundled_studies())
    assert not [row for row in rows if "**" in row and "not run" in row], "a verdict without runs"


def test_data_are_small() -> None:
    files = [path for path in (ROOT / "docs" / "results").rglob("*") if path.is_file()]
    assert [path.name for path in files if path.stat().st_size > LARGEST] == []


def test_a_row_quotes_the_main_claim_and_says_what_its_controls_leave_of_it(render: ModuleType, tmp_path: Path) -> None:
    def number(mean: float, power: float) -> dict[str, Any]:
        return {
            "metric": "trained/deception.steward", "contrast": "overseer_penalty - unshaped", "mean": mean,
            "low": mean - 0.1, "high": mean + 0.1, "effect": "raised", "power": {"power": power, "n": 5},
        }  # fmt: skip

    verdict = {"statement": "It rises.", "controls_failed": [], "behaved": None, "must": None, "numbers": []}
    verdicts = [
        {**verdict, "claim": "P1", "verdict": "supported", "must": "supported", "behaved": True},
        {**verdict, "claim": "N2", "verdict": "inconclusive", "must": "supported", "behaved": False},
        {**verdict, "claim": "H1", "verdict": "supported", "controls_failed": ["N2"],
         "numbers": [number(0.2, 0.9), number(0.6, 0.4)]},
    ]  # fmt: skip
    (tmp_path / "verdicts.json").write_text(json.dumps({"verdicts": verdicts}))
    known = {"claim": "H1", "source": "2511.18397", "literature": "less"}
    name, _, source, said, main, literature, power, _, command = render._row("quickstart", tmp_path, known)
    assert name == "[`quickstart`](#quickstart)" and source == "[2511.18397](https://arxiv.org/abs/2511.18397)"
    verdict_of_main = "**supported** (H1: It rises), but proves nothing while N2 is not as it must be"
    assert said == f"{verdict_of_main}; controls 1 of 2 as they must be"
    assert main == "+0.60 [+0.50, +0.70] deception, training options in steward, largest of 2"
    assert (literature, power, command) == ("less", "0.40 at n = 5", "`shaping study quickstart`")


def test_a_study_that_was_not_run_says_so(render: ModuleType, tmp_path: Path) -> None:
    rows = len(load_study("masks").runs())
    assert list(render._row("masks", tmp_path, {"claim": "K1"}))[3] == "not registered; not run"
    (tmp_path / "preregistration.md").touch()
    (tmp_path / "rows" / "mask").mkdir(parents=True)
    (tmp_path / "rows" / "mask" / "seed-0.json").touch()
    said = list(render._row("masks", tmp_path, {"claim": "K1"}))
    assert said[3] == f"registered; 1 of {rows} runs so far" and said[4] == "–" and said[6].endswith("(assumed)")
