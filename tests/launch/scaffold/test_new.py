"""`shaping new` writes files that run, with tests that pass, and the documentation prints the same files."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from envs.modules import own_modules
from launch.cli import app
from launch.config.loading import load_study
from launch.errors import UserError
from launch.scaffold.new import parts_in, write_new
from launch.scaffold.templates import FOLDER, KINDS, Names, names_of
from launch.study import run_study

NAMES = {
    "shaper": "MyShaper",
    "constraint": "my_constraint",
    "world": "my-world",
    "reward": "MyReward",
    "monitor": "MyMonitor",
    "claim": "MyClaim",
    "study": "mine",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One of each kind, the study last."""
    made = tmp_path_factory.mktemp("new") / "own"
    with pytest.MonkeyPatch.context() as patch:  # tests of docs/examples leave their my_shaper behind
        patch.setattr(sys, "path", [place for place in sys.path if not place.endswith("examples")])
        patch.delitem(sys.modules, "my_shaper", raising=False)
        for kind, name in NAMES.items():
            assert all(file.is_file() for file in write_new(kind, name, made))
    return made


@pytest.fixture(autouse=True)
def forgotten(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    # other tests leave docs/examples on the path, and its my_shaper
    monkeypatch.setattr(sys, "path", [place for place in sys.path if not place.endswith("examples")])
    monkeypatch.setattr(own_modules, "_beside", {})
    for name in [name for name in sys.modules if name.startswith("my_")]:
        monkeypatch.delitem(sys.modules, name)
    known = set(sys.modules)
    yield
    for name in set(sys.modules) - known:
        if name.startswith("my_"):
            del sys.modules[name]


def test_all_kinds_have_a_template_and_its_test() -> None:
    assert tuple(NAMES) == KINDS
    assert len(list(FOLDER.iterdir())) == 2 * len(KINDS)
    assert 60 < len((FOLDER / "world.py.txt").read_text().splitlines()) < 125


def test_the_plug_ins_pass_their_own_tests(folder: Path) -> None:
    """Of the shaper, the constraint and the world; the others' differ from these in nothing that could fail alone."""
    files = [str(folder / f"test_my_{kind}.py") for kind in ("shaper", "world", "claim", "monitor")]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *files],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0 and "passed" in done.stdout, done.stdout + done.stderr


def test_a_study_of_all_six_runs(folder: Path, model: Path, tmp_path: Path) -> None:
    small = ["seeds=1", "train.updates=1", "train.groups=1", "train.group_size=2", "train.max_tokens=8"]
    look = ["eval.episodes=1", "eval.watch=[never]", "eval.placebo=[off]", "eval.access_episodes=0"]
    study = load_study(folder / "mine.yaml", [*small, *look, f"model={model}", f"output={tmp_path}"])
    assert [claim.use for claim in study.claims.values()] == ["my_claim:MyClaim"]
    done = run_study(study)
    assert len(done.finished) == 4 and not done.failed
    results = [json.loads(path.read_text()) for path in done.directory.glob("runs/*/seed-0/result.json")]
    for summary in (result["summary"] for result in results):
        assert any(key.startswith("monitor.my_monitor.reward_hack.") for key in summary)
        assert "proxy_reward.my_world" in summary


def test_the_study_names_what_lies_beside_it_and_says_where_its_schema_is(folder: Path) -> None:
    assert {part.kind: part.use for part in parts_in(folder)} == {
        kind: f"my_{kind}:{names_of(NAMES[kind]).kind}" for kind in KINDS if kind != "study"
    }
    lines = (folder / "mine.yaml").read_text().splitlines()
    assert "# yaml-language-server: $schema=./study.schema.json" in lines
    assert json.loads((folder / "study.schema.json").read_text())["required"] == ["name", "train", "eval", "arms"]


def test_a_study_without_plug_ins_beside_it_names_built_in_ones(tmp_path: Path) -> None:
    write_new("study", "alone", tmp_path)
    arms = load_study(tmp_path / "alone.yaml").arms
    assert list(arms) == ["unshaped", "recontextualization"]
    assert yaml.safe_load((tmp_path / "alone.yaml").read_text())["eval"]["monitors"] == ["ClaimCheck"]


@pytest.mark.parametrize("name", ["MyShaper", "my_shaper", "my-shaper"])
def test_a_name_may_be_written_in_three_ways(name: str) -> None:
    assert names_of(name) == Names("my_shaper", "MyShaper")


@pytest.mark.parametrize(
    ("kind", "name", "message"),
    [
        ("shapr", "Mine", "did you mean 'shaper'"),
        ("shaper", "1st", "no name of a class"),
        ("shaper", "class", "no name of a class"),
        ("shaper", "Credit", "imports another of that name"),
        ("world", "Clerk", "a built-in world 'clerk'"),
        ("reward", "Rewards", "a module 'rewards' exists already"),
        ("monitor", "Json", "a module 'json' exists already"),
    ],
)
def test_names_that_do_not_go_are_refused(tmp_path: Path, kind: str, name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        write_new(kind, name, tmp_path)
    assert not list(tmp_path.iterdir())


def test_no_file_is_replaced(tmp_path: Path) -> None:
    write_new("reward", "Own", tmp_path)
    (tmp_path / "own.py").write_text("mine")
    with pytest.raises(UserError, match=r"own\.py is there already"):
        write_new("reward", "Own", tmp_path)
    assert (tmp_path / "own.py").read_text() == "mine"


def test_the_verb_says_what_it_wrote_and_what_comes_next(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["new", "claim", "KeepsIt", "--folder", str(tmp_path)])
    assert done.exit_code == 0, done.exception
    assert f"next: shaping check {tmp_path / 'keeps_it.py'}:KeepsIt" in done.output


def test_list_shows_fields_and_docstring_of_one() -> None:
    done = CliRunner().invoke(app, ["list", "OverseerPenalty"])
    assert done.exit_code == 0, done.exception
    lines = done.output.splitlines()
    assert lines[0].startswith("OverseerPenalty (shaping.constraints.overseer_penalty:OverseerPenalty), constraint")
    assert any(line.split()[:3] == ["weight", "float", "1.0"] for line in lines)
    world = CliRunner().invoke(app, ["list", "clerk"]).output
    assert any(line.split()[:2] == ["inquiry", "float"] for line in world.splitlines())
    told = str(CliRunner().invoke(app, ["list", "OverseerPenalt"]).exception)
    assert "there is nothing called 'OverseerPenalt' (did you mean 'OverseerPenalty'?)" in told
