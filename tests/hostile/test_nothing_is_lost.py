"""What a study has finished is never lost, and never believed once it has changed.

Promised: a finished run is not deleted and not trained again because of files that others leave in its directory. Where
one of its own files has changed, by a byte or by all of them, the run is set aside with a note, and made again. Rows
that disappear while a run trains are played again, and no run ends without them. Lines of JSON end at a line feed,
whatever characters a world or a label holds.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from launch_fakes import START_MODEL, TRAINER, study
from rich.console import Console

from launch.config.loading import parse_study
from launch.config.study import RunConfig, StudyConfig
from launch.run.execute import execute
from launch.run.start_model import start_model
from launch.storage import jsonl
from launch.storage.rundir import RunDirectory
from launch.storage.studydir import StudyDirectory
from launch.study import StudyResult, run_study
from launch.tracking.progress import Display

TINY = {"hidden": 32, "layers": 1, "heads": 2, "kv_heads": 1, "vocabulary": 400, "episodes": 12, "steps": 2}
SMALL = {
    "name": "small",
    "seeds": 1,
    "model": {"organism": TINY},
    "train": {
        **{"worlds": {"steward": {"size": 2, "horizon": 3}}, "updates": 4, "groups": 2, "group_size": 2},
        **{"max_tokens": 6, "checkpoint_every": 2},
    },
    "eval": {"worlds": {"clerk": {"size": 2}}, "episodes": 1, "access_episodes": 0},
    "arms": {"unshaped": {"role": "reference"}},
}


class Lines(Display):
    """A terminal that keeps what it is told."""

    def __init__(self) -> None:
        super().__init__(Console(quiet=True))
        self.said: list[str] = []

    def note(self, text: str) -> None:
        self.said.append(text)


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SHAPING_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def fake_model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FAKE_MODEL", str(tmp_path / "model"))


def again(config: StudyConfig, lines: Lines | None = None, **arguments: Any) -> StudyResult:
    """`shaping study`, with a trainer that trains nothing."""
    return run_study(config, trainer=TRAINER, start_model=START_MODEL, display=lines or Lines(), **arguments)


@pytest.fixture
def finished(tmp_path: Path) -> tuple[StudyConfig, Path]:
    """A study of one run, and the directory of the run."""
    config = study(tmp_path, {"a": ""}, seeds=1)
    return config, again(config).directory / "runs" / "a" / "seed-0"


@pytest.mark.parametrize("name", ["notes.txt", ".DS_Store", ".eval.jsonl.swp", "eval.jsonl~", "checkpoint/.DS_Store"])
def test_a_file_that_somebody_leaves_in_a_finished_run_changes_nothing(
    finished: tuple[StudyConfig, Path], name: str
) -> None:
    config, path = finished
    (path / name).write_text("x")
    assert again(config).kept == ["a/seed-0"]
    assert (path / name).read_text() == "x"


def test_a_finished_run_that_lost_or_grew_a_file_is_set_aside_and_made_again(
    finished: tuple[StudyConfig, Path],
) -> None:
    config, path = finished
    with (path / "eval.jsonl").open("a") as file:
        file.write("\n")
    lines = Lines()
    assert again(config, lines).finished == ["a/seed-0"]
    told = [line for line in lines.said if "set aside" in line]
    assert len(told) == 1 and "eval.jsonl" in told[0] and "seed-0.set-aside-1" in told[0]
    aside = path.with_name("seed-0.set-aside-1")
    assert "eval.jsonl" in (aside / "set-aside.txt").read_text()
    assert (aside / "result.json").exists() and (aside / "checkpoint" / "config.json").exists()
    assert StudyDirectory(path.parents[2]).run_directories() == [path], "what is set aside is no run"
    assert again(config).kept == ["a/seed-0"]


@pytest.mark.parametrize("name", ["metrics.jsonl", "eval.jsonl", "result.json", "run.json", "checkpoint/config.json"])
def test_one_flipped_bit_of_a_finished_run_is_noticed(finished: tuple[StudyConfig, Path], name: str) -> None:
    config, path = finished
    data = bytearray((path / name).read_bytes())
    data[len(data) // 2] ^= 1
    (path / name).write_bytes(data)
    assert again(config).finished == ["a/seed-0"]
    assert (path.with_name("seed-0.set-aside-1") / name).read_bytes() == data


# Rows that disappear while a run trains -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run() -> RunConfig:
    return parse_study(SMALL, "test").runs()[0]


@pytest.fixture(scope="module")
def undisturbed(run: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("undisturbed") / "run"
    execute(run, start_model(run.model), RunDirectory(path))
    return (path / "metrics.jsonl").read_bytes()


@pytest.mark.parametrize("damage", ["removed", "emptied", "a damaged line", "a cut-off line"])
@pytest.mark.parametrize("after", [0, 2, 3])
def test_rows_that_are_lost_while_a_run_trains_are_played_again(
    run: RunConfig, undisturbed: bytes, tmp_path: Path, damage: str, after: int
) -> None:
    metrics, left = tmp_path / "run" / "metrics.jsonl", [after]

    def attack(update: int, row: dict[str, Any]) -> None:
        if left == [update]:
            left.clear()
            data = metrics.read_bytes()
            if damage == "removed":
                metrics.unlink()
            else:
                half = data[:-1].rpartition(b"\n")[0] + b'\n{"upd'
                metrics.write_bytes({"emptied": b"", "a damaged line": half + b"\n", "a cut-off line": half}[damage])

    execute(run, start_model(run.model), RunDirectory(tmp_path / "run"), attack)
    assert not left and metrics.read_bytes() == undisturbed
    assert RunDirectory(tmp_path / "run").status(weights=True) == "complete"


# JSON lines -----------------------------------------------------------------------------------------------------------


def test_lines_of_json_end_at_a_line_feed_and_nowhere_else(tmp_path: Path) -> None:
    odd = "a\u2028b\u2029c\u0085d\x0be\x0cf\x1cg\rh\ni"
    config = study(tmp_path, {"a": {"label": odd}}, seeds=1)
    path = again(config).directory / "runs" / "a" / "seed-0"
    directory = RunDirectory(path)
    directory.evaluation([{"world": odd, "reward": 0.5}, {"world": "clerk"}])
    assert again(config).kept == ["a/seed-0"]
    assert [row["world"] for row in jsonl.read(path / "eval.jsonl")] == [odd, "clerk"]
    assert os.listdir(path.parent).count("seed-0") == 1
