"""docs/study.md and its schema say what the models of studies say, and studies keep to the schema."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import jsonschema
import pytest
from typer.testing import CliRunner

from launch.cli import app
from launch.config.loading import load_study
from launch.config.reading.yaml_reader import read_yaml
from launch.config.schema import study_schema

ROOT = Path(__file__).resolve().parents[2]
STUDIES = sorted(
    path
    for folder in ("launch/studies", "docs/examples")
    for path in (ROOT / folder).glob("*.yaml")
    if "\narms:" in path.read_text(encoding="utf-8")
)


def rendering(name: str) -> ModuleType:
    """A module that writes pages; `docs` is not installed, so it is found from the root."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT))
        return importlib.import_module(f"docs.{name}")


@pytest.fixture(scope="module")
def validator() -> Any:
    schema = study_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def document(path: Path) -> Any:
    return read_yaml(path.read_text(encoding="utf-8"), str(path)).value


def test_page_and_schema_are_fresh() -> None:
    render = rendering("render_study")
    text = render.PAGE.read_text(encoding="utf-8")
    assert render.rendered(text) == text, "python -m docs.render_study"
    printed = json.loads(CliRunner().invoke(app, ["schema"]).output)
    assert without_plugins(printed) == without_plugins(json.loads(render.SCHEMA.read_text(encoding="utf-8")))


def without_plugins(schema: Any) -> Any:
    """A plug-in or world that was added since may be missing: it is one new file, and the schema is written later."""
    for kind in ("intervention", "reward", "monitor", "claim"):
        assert len(schema["$defs"].pop(kind)["anyOf"]) == 4
    for section in ("TrainConfig", "EvalConfig"):
        assert "steward" in schema["$defs"][section]["properties"]["worlds"].pop("properties")
    return schema


def test_every_key_has_a_description() -> None:
    schema = study_schema()
    silent = [
        f"{name}.{key}"
        for name, own in (("study", schema), *schema["$defs"].items())
        for key, each in own.get("properties", {}).items()
        if not each.get("description")
    ]
    assert not silent


def test_no_class_stands_among_the_keys_that_an_editor_offers() -> None:
    text = json.dumps(study_schema())
    assert text.count('"title": "') == 1 and '"title": "A study"' in text


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_studies_keep_to_the_schema_and_say_where_it_is(path: Path, validator: Any) -> None:
    assert [error.message for error in validator.iter_errors(document(path))] == []
    (line,) = [line for line in path.read_text(encoding="utf-8").splitlines() if "yaml-language-server" in line]
    assert (path.parent / line.partition("$schema=")[2]).resolve() == ROOT / "docs" / "study.schema.json"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("updates", {"train": {"updates": "many"}}),
        ("trian", {"trian": {}}),
        ("role", {"arms": {"one": {"role": "baseline"}}}),
        ("seeds", {"seeds": "all"}),
    ],
)
def test_the_schema_refuses_what_the_program_refuses(key: str, value: dict[str, Any], validator: Any) -> None:
    study = document(ROOT / "docs" / "examples" / "my_study.yaml")
    for section, own in value.items():
        study[section] = {**study.get(section, {}), **own} if isinstance(own, dict) else own
    assert any(key in json.dumps([*error.absolute_path, error.message]) for error in validator.iter_errors(study))


def test_the_examples_of_the_page_keep_to_the_schema(validator: Any) -> None:
    text = (ROOT / "docs" / "study.md").read_text(encoding="utf-8").partition("## Keys")[0]
    blocks = [block.partition("```")[0] for block in text.split("```yaml\n")[1:]]
    parts: dict[str, Any] = {}
    for block in blocks:
        parts |= read_yaml(block, "example").value or {}
    assert {"arms", "axes", "eval", "claims"} <= set(parts)
    study = {
        "name": "example",
        "train": {"worlds": {"steward": {}}, "updates": 1, "groups": 1, "group_size": 2},
        **parts,
    }
    assert [error.message for error in validator.iter_errors(study)] == []


def test_the_line_for_editors_changes_no_digest(tmp_path: Path) -> None:
    path = ROOT / "launch" / "studies" / "quickstart.yaml"
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    (tmp_path / "bare.yaml").write_text("".join(line for line in lines if "yaml-language-server" not in line))
    with_line, without = (load_study(file).runs() for file in (path, tmp_path / "bare.yaml"))
    assert [run.digest for run in with_line] == [run.digest for run in without]


def test_the_documentation_prints_the_templates_of_shaping_new() -> None:
    render = rendering("render_templates")
    for page in render.PAGES:
        text = page.read_text(encoding="utf-8")
        assert render.rendered(text) == text, f"{page.name}: python -m docs.render_templates"
    assert render.SHAPER.read_text(encoding="utf-8") == render.own_shaper()
