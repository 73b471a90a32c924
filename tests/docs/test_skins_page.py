"""The page on languages and eras says what the code does."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from types import ModuleType

import pytest

from envs.skins import LOCALES
from envs.skins.skin import worlds
from launch.config.loading import parse_yaml
from launch.config.world_locales import expand_locales
from shaping.organisms.config import OrganismConfig

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "worlds" / "skins.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def render() -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT))
        return importlib.import_module("docs.worlds.render")


@pytest.mark.parametrize("name", ["turns", "commands", "norms"])
def test_its_tables_are_those_of_the_code(render: ModuleType, name: str) -> None:
    found = re.search(rf"<!-- {name} -->\n(.*?)\n<!-- /{name} -->", TEXT, re.DOTALL)
    assert found is not None
    assert found[1] == render.parts("skins")[name], "write the pages again with `python -m docs.worlds.render`"


@pytest.mark.parametrize("world", worlds())
def test_it_says_what_a_world_is_about_in_other_eras(world: str) -> None:
    rows = {row[0]: row[1:] for row in re.findall(r"^\| (\w+) \| (.+) \| (.+) \| (.+) \|$", TEXT, re.MULTILINE)}
    if world not in rows:
        pytest.skip(f"docs/worlds/skins.md, section Settings, has no row for {world}")
    assert len(set(rows[world])) == 3


def test_its_configurations_are_valid() -> None:
    study, *others = (parse_yaml(block, "skins.md") for block in re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL))
    (organism,) = (block for block in others if "model" in block)
    assert len(expand_locales(study["eval"]["worlds"])) == len(LOCALES)
    assert set(expand_locales(study["train"]["worlds"])) == {"clerk@ar-1850", "clerk"}
    assert OrganismConfig(**organism["model"]["organism"]).skins == ["en-2025", "ar-1850", "ar-2025"]


def test_the_index_leads_to_it() -> None:
    assert "(worlds/skins.md)" in (ROOT / "docs" / "worlds.md").read_text(encoding="utf-8")
