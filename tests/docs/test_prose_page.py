"""The page on worlds in prose says what the code does."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from types import ModuleType

import pytest

from envs import WORLDS
from envs.actions import parse_action
from launch.config.loading import parse_study, parse_yaml

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "worlds" / "prose.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def render() -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT))
        return importlib.import_module("docs.worlds.render")


def test_its_transcripts_are_what_the_worlds_play(render: ModuleType) -> None:
    made = render.parts("prose")
    assert {*WORLDS} <= {*made}
    for name, text in made.items():
        found = re.search(rf"<!-- {name} -->\n(.*?)\n<!-- /{name} -->", TEXT, re.DOTALL)
        assert found is not None, name
        assert found[1] == text, "write the pages again with `python -m docs.worlds.render`"
        assert "harm" in text and "deception" in text


def test_its_table_of_names_is_what_studies_make_of_them() -> None:
    rows = re.findall(r"^\| (`clerk.*) \| (.*) \| (.*) \|$", TEXT, re.MULTILINE)
    assert len(rows) == 4
    for written, *told in rows[:3]:
        for name in re.findall("`(.*?)`", written):
            for model, expected in zip(({}, {"model": "some/model"}), told, strict=True):
                train = {"worlds": {name: {}}, "updates": 1, "groups": 1, "group_size": 2}
                study = {"name": "s", "seeds": 1, "train": train, "eval": {"worlds": {name: {}}}, **model}
                study["arms"] = {"plain": {"role": "reference"}}
                (run,) = parse_study(study, "prose.md").runs()
                assert f"`{next(iter(run.train.worlds))}`" == expected.partition(" (")[0], name


def test_its_examples_are_valid() -> None:
    (block,) = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)
    study = parse_yaml(block, "prose.md")
    train = {**study["train"], "updates": 1, "groups": 1, "group_size": 2}
    document = {"name": "s", "seeds": 1, **study, "train": train, "eval": {"cells": ["train"]}}
    (run,) = parse_study({**document, "arms": {"plain": {"role": "reference"}}}, "prose.md").runs()
    assert list(run.train.worlds) == ["clerk@en-prose", "pact@ar-prose", "steward"]
    (call,) = re.findall(r"^<tool_call>.*$", TEXT, re.MULTILINE)
    assert parse_action(call) == "report 3 done" and f"`{parse_action(call)}`" in TEXT


def test_the_index_and_the_page_on_skins_lead_to_it() -> None:
    docs = ROOT / "docs"
    assert "(worlds/prose.md)" in (docs / "worlds.md").read_text(encoding="utf-8")
    assert "(prose.md)" in (docs / "worlds" / "skins.md").read_text(encoding="utf-8")
