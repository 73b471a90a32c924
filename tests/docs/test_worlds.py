"""The pages on the worlds say what the code does."""

from __future__ import annotations

import importlib
import itertools
import re
from pathlib import Path
from types import ModuleType

import pytest
from typer.testing import CliRunner
from world_commands import switches

from envs import SURVEYS, WORLDS
from envs.discovery import subclasses
from envs.episode import TRAITS
from envs.personas.persona import PERSONAS
from envs.seated import SeatedWorld
from launch.cli import app

ROOT = Path(__file__).resolve().parents[2]
INDEX = ROOT / "docs" / "worlds.md"
EACH = pytest.mark.parametrize("name", WORLDS)
AGAIN = "write the pages again with `python -m docs.worlds.render`, and read the text around the change"


@pytest.fixture(scope="session")
def render() -> ModuleType:
    """The module that writes the pages; `docs` is not installed, so it is found from the root."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT))
        return importlib.import_module("docs.worlds.render")


def page(name: str) -> str:
    file = ROOT / "docs" / "worlds" / f"{name}.md"
    if not file.is_file():
        pytest.skip(f"docs/worlds/{name}.md is missing")
    return file.read_text(encoding="utf-8")


def part(text: str, name: str) -> str:
    found = re.search(rf"<!-- {name} -->\n(.*?)\n<!-- /{name} -->", text, re.DOTALL)
    assert found, f"no part {name!r}"
    return found[1]


def section(text: str, title: str) -> str:
    found = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found, f"no section {title!r}"
    return found[1]


@EACH
def test_options_are_those_of_the_code(render: ModuleType, name: str) -> None:
    world = WORLDS[name]
    assert part(page(name), "options") == render.options_table(world.Options, size=world.default_size), AGAIN


def test_the_index_has_the_pages_options_and_sizes_of_the_code(render: ModuleType) -> None:
    text = INDEX.read_text(encoding="utf-8")
    for name, made in render.parts("index").items():
        assert part(text, name) == made, AGAIN


@EACH
def test_the_transcript_is_what_the_world_plays(render: ModuleType, name: str) -> None:
    assert part(page(name), "transcript") == render.transcript(name), AGAIN


@EACH
def test_the_transcript_shows_a_harm_and_a_false_answer(name: str) -> None:
    turns = part(page(name), "transcript").split("\n\n")
    assert any("harm" in turn for turn in turns)
    assert any("ACTION: answer no" in turn and "deception" in turn for turn in turns)


@EACH
def test_scores_are_those_of_the_code(render: ModuleType, name: str) -> None:
    assert part(page(name), "scores") == render.scores_table(name), AGAIN


@EACH
def test_every_command_of_the_briefing_and_every_label_has_its_line(name: str) -> None:
    text, world = page(name), WORLDS[name]
    for options in ({}, *switches(world)):
        briefing, _ = world(**options).reset(seed=0)
        listed = re.search(r"commands : (.*?) \. turn", briefing)
        assert listed
        for command in listed[1].split(" , "):
            assert f"| `{command}` |" in text, command
    told = set(re.findall(r"`(\w+)`", section(text, "Labels")))
    untold = {*TRAITS} - {"invalid"} - told
    assert not untold, f"not said when {untold} counts, or that it does not occur"


def test_every_page_is_of_a_world() -> None:
    of_several_seats = {kind.name for kind in subclasses("envs.worlds", SeatedWorld).values()}
    known = {*WORLDS, *of_several_seats, "skins", "prose"}
    assert {file.stem for file in (ROOT / "docs" / "worlds").glob("*.md")} <= known


def test_the_index_and_the_readme_lead_to_the_pages() -> None:
    text = INDEX.read_text(encoding="utf-8")
    assert "(docs/worlds.md)" in (ROOT / "README.md").read_text(encoding="utf-8")
    assert "(worlds.md)" in (ROOT / "docs" / "concepts.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `(\w+)`(?:, `(\w+)`)? \|", section(text, "Scripted policies"), re.MULTILINE)) == {
        *((who, "") for who in PERSONAS if who not in ("deceiver", "evader")),
        ("deceiver", "evader"),
    }


def test_the_example_of_the_index_runs(capsys: pytest.CaptureFixture[str]) -> None:
    (source,) = re.findall(r"^```python\n(.*?)^```", INDEX.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    exec(compile(source, "worlds.md", "exec"), {})
    assert "ACTION: " in capsys.readouterr().out


def test_a_page_without_a_place_for_a_part_is_refused(render: ModuleType) -> None:
    assert render.fill("<!-- a -->\nold\n<!-- /a -->", {"a": "new \\1"}) == "<!-- a -->\nnew \\1\n<!-- /a -->"
    with pytest.raises(ValueError, match="<!-- b -->"):
        render.fill("nothing", {"b": "text"})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("# Clerk", r"clerk\.md needs a comment"),
        ("<!-- render\nscene: {policy: honest}\nscores: []\n-->", "scores"),
        ("<!-- render\nscene: {persona: honest}\nscores: [honest]\n-->", "policy"),
    ],
)
def test_a_page_that_does_not_say_what_to_render_is_refused(
    render: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, message: str
) -> None:
    monkeypatch.setattr(render, "PAGES", tmp_path)
    (tmp_path / "clerk.md").write_text(text)
    with pytest.raises(ValueError, match=message):
        render.settings_of("clerk")


def test_the_command_line_lists_each_world_on_one_line() -> None:
    out = CliRunner().invoke(app, ["list"]).output
    listed = list(itertools.takewhile(lambda line: line.startswith(" "), out.split("worlds\n", 1)[1].splitlines()))
    assert [line.split()[0] for line in listed] == sorted([*WORLDS, *SURVEYS])
    assert all(len(line) <= 120 and len(line.split()) > 3 for line in listed)
