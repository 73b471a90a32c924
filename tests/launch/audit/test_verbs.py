"""`shaping audit` and `shaping lead`: what they print and write, and one message for each mistake."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest
from scripted_episodes import groups
from synthetic_study import write_study
from typer.testing import CliRunner, Result

from envs.store import write_episodes
from launch.cli import app
from launch.errors import UserError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two files of episodes of two worlds, in a folder that holds something else, too."""
    where = tmp_path_factory.mktemp("logs")
    first, second = groups("steward", "clerk", seeds=2)[:2], groups("steward", "clerk", seeds=2)[2:]
    (where / "sub").mkdir()
    write_episodes(where / "a.parquet", [e for group in first for e in group])
    sealed = second[0][0].redacted()
    write_episodes(where / "sub" / "b.parquet", [*(e for group in second for e in group), sealed])
    (where / "notes.txt").write_text("no episodes")
    return where


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, list(map(str, arguments)))


def test_audits_of_a_folder_are_printed_and_exported(folder: Path, tmp_path: Path) -> None:
    table = tmp_path / "audits.csv"
    found = call("audit", folder, "--out", table)
    assert found.exit_code == 0, found.output
    assert "24 episodes in 2 files, 0 of them failed" in found.output
    assert "left out: 1 episodes without ground truth" in found.output
    assert "| own  | mean over worlds | deception " in found.output and "selection_score/deception" in found.output
    assert "| steward" not in found.output and "steward" in call("audit", folder, "--by-world").output
    rows = list(csv.DictReader(table.open()))
    assert {row["world"] for row in rows} == {"", "steward", "clerk"}
    document = tmp_path / "audits.json"
    assert call("audit", folder / "a.parquet", "--no-intervals", "--out", document).exit_code == 0
    written = json.loads(document.read_text())
    assert written["not_computed"] == [] and all(row["low"] is None for row in written["audits"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["{folder}/gone.parquet"], "no such file or folder"),
        (["{folder}/notes.txt"], "not a readable Parquet file"),
        (["{folder}/a.parquet", "--out", "x.xml"], "ends in .csv or .json"),
    ],
)
def test_mistakes_are_named(folder: Path, arguments: list[str], said: str) -> None:
    found = call("audit", *(text.format(folder=folder) for text in arguments))
    assert isinstance(found.exception, UserError) and said in str(found.exception)


def test_a_metric_without_what_it_needs_is_named_and_the_others_are_computed(folder: Path, tmp_path: Path) -> None:
    bare = [replace(e, options={}) for e in groups("clerk", seeds=2)[0]]
    write_episodes(tmp_path / "bare.parquet", bare)
    found = call("audit", tmp_path)
    assert "not computed: proxy_reward: 6 episodes have no positive options['max_return']" in found.output
    assert "| deception " in found.output


def test_leads_of_a_study_need_columns_of_selection(tmp_path: Path) -> None:
    study = write_study(tmp_path / "study")
    directory = study if isinstance(study, Path) else tmp_path / "study"
    found = call("lead", directory)
    assert isinstance(found.exception, UserError) and "no run has the columns" in str(found.exception)
    found = call("lead", directory, "--rule", "wild")
    assert "write pooled or streak" in str(found.exception)


def test_leads_of_published_rows_are_printed_and_written(tmp_path: Path) -> None:
    rows = Path(__file__).resolve().parents[3] / "docs" / "results" / "quickstart" / "rows"
    file = tmp_path / "leads.json"
    found = call("lead", rows, "--rule", "streak", "--updates", "2", "--json", file)
    assert found.exit_code == 0, found.output
    assert "in each of 2 updates in a row; scores are estimated" in found.output and "all arms" in found.output
    every = json.loads(file.read_text())["arms"]["all arms"]
    deceptive = next(each for each in every if each["column"] == "deceptive_episodes")
    parts = ("before", "same", "later", "missed")
    assert deceptive["runs"] == 35 and sum(deceptive[part] for part in parts) == deceptive["left"]
