"""A run directory is complete only when it ended well, and nothing that is not ours is touched."""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from envs.episode import Episode
from launch.errors import DiskFullError, RunDirectoryError
from launch.storage.rundir import RunDirectory, check_space

CONFIG = {"arm": "unshaped", "seed": 0}


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    directory = RunDirectory(tmp_path / "runs" / "unshaped" / "seed-0")
    directory.create(CONFIG, {"python": "3.11"})
    return directory


def finished(run: RunDirectory) -> RunDirectory:
    run.metrics({"update": 0, "reward": 0.5})
    run.evaluation([{"world": "clerk"}])
    run.checkpoint.mkdir()
    (run.checkpoint / "weights").write_bytes(b"1234")
    run.finish({"arm": "unshaped", "summary": {"power": np.float64(0.25), "gap": float("nan")}})
    return run


def test_a_run_goes_from_absent_over_partial_to_complete(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path / "new")
    assert directory.status() == "absent"
    directory.create(CONFIG, {})
    assert directory.status() == "partial"
    assert finished(directory).status() == "complete"
    assert directory.config() == CONFIG


def test_an_empty_directory_counts_as_absent(tmp_path: Path) -> None:
    assert RunDirectory(tmp_path).status() == "absent"


def test_the_result_is_strict_json_with_null_for_what_is_not_finite(run: RunDirectory) -> None:
    result = json.loads((finished(run).path / "result.json").read_text(), parse_constant=pytest.fail)
    assert result["summary"] == {"power": 0.25, "gap": None}
    assert result["format"] == "shaping-run"


def test_metrics_are_on_disk_as_soon_as_they_are_written(run: RunDirectory) -> None:
    run.metrics({"reward": np.float32(0.5), "loss": float("inf"), "n": np.arange(2)})
    assert json.loads((run.path / "metrics.jsonl").read_text()) == {"reward": 0.5, "loss": None, "n": [0, 1]}


@pytest.mark.parametrize("name", ["result.json", "metrics.jsonl", "eval.jsonl", "checkpoint/weights"])
def test_a_truncated_file_makes_a_finished_run_partial(run: RunDirectory, name: str) -> None:
    path = finished(run).path / name
    path.write_bytes(path.read_bytes()[:-2])
    assert run.status() == "partial"


def test_a_changed_result_does_not_pass_its_checksum(run: RunDirectory) -> None:
    path = finished(run).path / "result.json"
    path.write_text(path.read_text().replace("0.25", "0.75"))
    assert run.status() == "partial"
    assert run.result() is None


def test_a_half_written_run_is_wiped_when_it_starts_again(run: RunDirectory) -> None:
    run.metrics({"update": 0})
    run.checkpoint.mkdir()
    run.create(CONFIG, {})
    assert not run.checkpoint.exists()
    assert (run.path / "metrics.jsonl").read_text() == ""


@pytest.mark.parametrize("removed", range(4))
def test_a_run_that_is_killed_while_it_is_wiped_is_still_ours(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch, removed: int
) -> None:
    run.timings({"update": 0})
    run.state.mkdir()
    left = [None] * removed

    def remove(path: Path) -> None:
        left.pop()
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    with monkeypatch.context() as patch:
        patch.setattr("launch.storage.rundir._remove", remove)
        with pytest.raises(IndexError):
            run.create(CONFIG, {})
    assert run.status() == "partial"
    run.create(CONFIG, {})
    assert sorted(p.name for p in run.path.iterdir()) == ["metrics.jsonl", "run.json"]


def test_a_run_goes_back_to_a_mark(run: RunDirectory, make_episode: Callable[..., Episode]) -> None:
    for update in range(4):
        run.metrics({"update": update, "name": "\u2028"})
        run.timings({"update": update})
        run.episodes(f"train-{update}", [make_episode()])
        if update == 1:
            mark = json.loads(json.dumps(run.mark()))
    run.state.mkdir()
    (run.path / "episodes" / ".tmp-1-train-4.parquet").touch()
    run.evaluation([{"world": "clerk"}])
    run.checkpoint.mkdir()
    assert run.rewind(mark) == ""
    assert sorted(p.name for p in run.path.iterdir()) == [
        *("episodes", "metrics.jsonl", "run.json", "state", "timings.jsonl")
    ]
    assert [row["update"] for row in run.rows()] == [0, 1]
    assert [json.loads(line)["update"] for line in (run.path / "timings.jsonl").read_text().splitlines()] == [0, 1]
    assert sorted(p.name for p in (run.path / "episodes").iterdir()) == ["train-0.parquet", "train-1.parquet"]
    assert run.mark() == mark


def test_a_mark_whose_rows_are_lost_changes_nothing(run: RunDirectory) -> None:
    for update in range(3):
        run.metrics({"update": update})
    mark = run.mark()
    path = run.path / "metrics.jsonl"
    path.write_text(path.read_text().replace("1", "7"))
    run.evaluation([])
    assert "no longer begins with the 3 rows" in run.rewind(mark)
    assert (run.path / "eval.jsonl").exists()


def test_rows_read_back_have_nan_for_null(run: RunDirectory) -> None:
    run.metrics({"update": 0, "loss": float("inf")})
    (row,) = run.rows()
    assert row["update"] == 0 and np.isnan(row["loss"])


def test_wall_times_and_states_are_no_part_of_a_finished_run(run: RunDirectory) -> None:
    run.state.mkdir()
    run.timings({"update": 0})
    finished(run)
    assert not run.state.exists()
    run.timings({"phase": "run"})
    assert run.status() == "complete"


def test_a_finished_run_is_not_overwritten(run: RunDirectory) -> None:
    with pytest.raises(RunDirectoryError, match="finished run"):
        finished(run).create(CONFIG, {})


@pytest.mark.parametrize("content", ["", "{}", '{"format": "something-else"}', "not json"])
def test_foreign_directories_are_left_alone(tmp_path: Path, content: str) -> None:
    (tmp_path / "run.json").write_text(content)
    (tmp_path / "thesis.doc").write_text("precious")
    directory = RunDirectory(tmp_path)
    assert directory.status() == "foreign"
    with pytest.raises(RunDirectoryError, match="not empty"):
        directory.create(CONFIG, {})
    assert (tmp_path / "thesis.doc").read_text() == "precious"


def test_a_link_in_a_half_written_run_is_not_followed_when_it_is_wiped(run: RunDirectory, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").touch()
    (run.path / "link").symlink_to(precious)
    run.create(CONFIG, {})
    assert (precious / "file").exists()


def test_a_file_where_the_directory_should_be_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunDirectoryError, match="is a file"):
        RunDirectory(tmp_path / "file").status()


def test_a_later_format_is_not_read(run: RunDirectory) -> None:
    path = run.path / "run.json"
    path.write_text(path.read_text().replace('"version": 1', '"version": 2'))
    with pytest.raises(RunDirectoryError, match="version 2"):
        run.status()


def test_a_new_evaluation_keeps_a_finished_run_finished(run: RunDirectory) -> None:
    finished(run).evaluation([{"world": "clerk"}, {"world": "steward"}])
    assert run.status() == "complete"


def test_a_full_disk_is_told_and_leaves_the_finished_result(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    finished(run)

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("launch.storage.rundir.os.fsync", full)
    with pytest.raises(DiskFullError, match="free some space"):
        run.evaluation([{"world": "steward"}])
    assert run.status() == "complete"
    assert not list(run.path.glob(".tmp-*"))


def test_too_little_space_is_noticed_before_anything_starts(tmp_path: Path) -> None:
    check_space(tmp_path / "not" / "there", 1)
    with pytest.raises(DiskFullError, match="needs about"):
        check_space(tmp_path / "not" / "there", shutil.disk_usage(tmp_path).total * 2)


def test_two_processes_cannot_write_one_run(run: RunDirectory) -> None:
    with (
        run.locked(),
        pytest.raises(RunDirectoryError, match="another process"),
        RunDirectory(run.path).locked(patience=0),
    ):
        pass
    with run.locked(patience=0):
        assert run.status() == "partial"
