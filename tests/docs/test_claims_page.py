"""The page on claims says what the code does."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest

from envs.discovery import subclasses
from launch.config.claims import build_claims
from launch.config.loading import parse_study, parse_yaml
from launch.config.plugins import CLAIM, load
from launch.config.study import PluginSpec, Role
from launch.report.claims.base import Claim
from launch.report.claims.table import Table
from launch.report.files.load import ArmInfo

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "claims.md").read_text(encoding="utf-8")
REST = {
    "name": "printed",
    "train": {"worlds": {"clerk": {}}, "updates": 1, "groups": 1, "group_size": 2},
    "eval": {"worlds": {"clerk": {}}},
}


def first_column(heading: str) -> set[str]:
    """The code in the first column of the table below a heading."""
    (section,) = re.findall(rf"^## {heading}\n(.*?)(?=^## |\Z)", TEXT, re.MULTILINE | re.DOTALL)
    cells = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|", section, re.MULTILINE)
    return {name for cell in cells for name in re.findall(r"`(\w+)`", cell)}


def test_its_classes_fields_and_roles_are_those_of_the_code() -> None:
    classes = subclasses("launch.report.claims", Claim)  # type: ignore[type-abstract]
    assert len(first_column("The classes") & set(classes)) == len(first_column("The classes")) > 8
    assert first_column("Fields") == {*Claim.model_fields, "use"} - {"id"}
    assert first_column("Roles") == set(get_args(Role))


def test_every_further_field_of_a_class_is_explained() -> None:
    classes = subclasses("launch.report.claims", Claim)  # type: ignore[type-abstract]
    for name, found in ((name, classes[name]) for name in first_column("The classes")):
        for field in set(found.model_fields) - set(Claim.model_fields):
            assert re.search(rf"^\*\*[^\n]*`{name}`.*?`{field}[:`]", TEXT, re.MULTILINE | re.DOTALL), (name, field)


def test_its_study_loads() -> None:
    (block,) = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)
    study = parse_study({**REST, **parse_yaml(block, "claims.md")}, "claims.md")
    assert [claim.id for claim in build_claims(study)] == ["P1", "R1"]


@pytest.mark.parametrize(("ours", "word"), [(0.1, "supported"), (0.9, "contradicted"), (0.5, "contradicted")])
def test_its_claim_of_ones_own_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ours: float, word: str) -> None:
    (source,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    (tmp_path / "my_claims.py").write_text(source)
    monkeypatch.chdir(tmp_path)
    spec = PluginSpec(use="my_claims:Majority", id="M", statement="Less.", treatment="a", metrics=["harm"])
    arms = (ArmInfo("a"), ArmInfo("base", role="reference"))
    base = {0: 0.5, 1: 0.4, 2: 0.3, 3: 0.35, 4: 0.45}
    values = {"a": {"harm": dict.fromkeys(base, ours)}, "base": {"harm": base}}
    found = load(spec, CLAIM, "claims.M").judge(Table(values, arms, 0.05))
    assert found.verdict == word
    assert found.sentence.startswith("The a arm had less in ")
