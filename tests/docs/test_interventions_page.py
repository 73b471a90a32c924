"""The catalogue's front page has every built-in intervention, with the controls that its class needs."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from types import ModuleType

import pytest

from envs.discovery import subclasses
from shaping.controls import MEANING, ControlKind
from shaping.intervention import Constraint, Shaper

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE = DOCS / "interventions" / "README.md"


@pytest.fixture(scope="module")
def render() -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(DOCS.parent))
        return importlib.import_module("docs.render_interventions")


def test_every_built_in_intervention_has_its_row(render: ModuleType) -> None:
    text = PAGE.read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(\w+)`[^|]*\| (\w+) \|", text, re.MULTILINE))
    built_in = {**subclasses("shaping.shapers", Shaper), **subclasses("shaping.constraints", Constraint)}
    assert set(rows) == set(built_in), "write it again with `python -m docs.render_interventions`"
    assert render.rendered(text) == text, "write it again with `python -m docs.render_interventions`"
    assert (rows["Inoculation"], rows["GradientRouting"], rows["ActionMask"]) == (
        "contexts", "parameters", "constraints",
    )  # fmt: skip


def test_the_table_names_the_judged_studies_of_each_intervention(render: ModuleType, tmp_path: Path) -> None:
    assert render.measured_in(tmp_path) == {}
    (tmp_path / "quickstart").mkdir()
    (tmp_path / "quickstart" / "verdicts.json").write_text("{}")
    (tmp_path / "thesis").mkdir()  # registered, and not judged
    used = {"ActionMask", "Inoculation", "OverseerPenalty", "PlaceboPenalty", "Recontextualization"}
    assert render.measured_in(tmp_path) == {name: ["quickstart"] for name in used}


def test_the_page_on_studies_explains_every_kind_of_control() -> None:
    section = (DOCS / "studies.md").read_text(encoding="utf-8").partition("\n## Controls\n")[2].partition("\n## ")[0]
    listed = {
        kind for row in re.findall(r"^\| (`.*?) \|", section, re.MULTILINE) for kind in re.findall(r"`(\w+)`", row)
    }
    assert listed == set(ControlKind) == set(MEANING)
