"""A run directory is complete only when it ended well, and nothing that is not ours is touched."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from envs.episode import Episode
from launch.errors import DiskFullError, RunDirectoryError
from launch.storage.documents import write_sealed
from launch.storage.files import check_space
from launch.storage.rundir import LostFilesError, RunDirectory

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
def test_a_truncated_file_is_noticed_in_a_finished_run(run: RunDirectory, name: str) -> None:
    path = finished(run).path / name
    path.write_bytes(path.read_bytes()[:-2])
    assert run.status() == "changed"
    assert run.damage().startswith(name)


@pytest.mark.parametrize("name", ["run.json", "result.json", "metrics.jsonl", "eval.jsonl", "checkpoint/weights"])
def test_a_flipped_byte_of_the_same_size_is_noticed(run: RunDirectory, name: str) -> None:
    path = finished(run).path / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert run.status(weights=True) == "changed"
    assert run.damage(weights=True).startswith(name)
    assert (run.status() == "complete") == name.startswith("checkpoint"), "weights are hashed on demand alone"


@pytest.mark.parametrize("name", ["notes.txt", ".DS_Store", ".metrics.jsonl.swp", "episodes/notes.md", "mine/x.jsonl"])
def test_files_of_others_are_no_part_of_a_run_and_are_never_removed(run: RunDirectory, name: str) -> None:
    for when in (lambda: None, lambda: finished(run)):
        when()
        (run.path / name).parent.mkdir(exist_ok=True)
        (run.path / name).write_text("mine")
    assert run.status(weights=True) == "complete"
    (run.path / name).write_text("mine, and longer")
    assert run.status(weights=True) == "complete"


def test_a_half_written_run_that_is_wiped_or_rewound_keeps_the_files_of_others(run: RunDirectory) -> None:
    (run.path / "notes.txt").write_text("mine")
    mark = run.mark(0)
    assert run.rewind(mark) == ""
    run.create(CONFIG, {})
    assert (run.path / "notes.txt").read_text() == "mine"


def test_a_directory_with_nothing_but_hidden_files_counts_as_absent(tmp_path: Path) -> None:
    (tmp_path / ".DS_Store").touch()
    assert RunDirectory(tmp_path).status() == "absent"


def test_a_changed_run_is_set_aside_with_a_note_and_never_wiped(run: RunDirectory) -> None:
    (finished(run).path / "eval.jsonl").write_text("changed")
    for number in (1, 2):
        run.create(CONFIG, {})
        aside = run.path.with_name(f"seed-0.set-aside-{number}")
        assert "eval.jsonl has 7 bytes instead of" in (aside / "set-aside.txt").read_text()
        assert (aside / "checkpoint" / "weights").read_bytes() == b"1234"
        assert run.status() == "partial"
        (finished(run).path / "eval.jsonl").write_text("changed")


def test_the_lock_of_a_run_is_held_while_it_is_set_aside(run: RunDirectory) -> None:
    (finished(run).path / "eval.jsonl").unlink()
    with run.locked():
        run.create(CONFIG, {})
        with pytest.raises(RunDirectoryError, match="another process"), RunDirectory(run.path).locked(patience=0):
            pass


def test_results_of_an_earlier_version_vouch_for_sizes_alone(run: RunDirectory) -> None:
    result = finished(run).result()
    assert result is not None
    older = {name: sealed["bytes"] for name, sealed in result["files"].items()}
    write_sealed(run.path / "result.json", {**result, "files": older})
    assert run.status(weights=True) == "complete"
    (run.path / "eval.jsonl").write_text("")
    assert run.status() == "changed"


def test_a_changed_result_does_not_pass_its_checksum(run: RunDirectory) -> None:
    path = finished(run).path / "result.json"
    path.write_text(path.read_text().replace("0.25", "0.75"))
    assert run.status() == "changed"
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
        patch.setattr("launch.storage.rundir.remove", remove)
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
            mark = json.loads(json.dumps(run.mark(2)))
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
    assert run.mark(2) == mark


def test_a_mark_whose_rows_are_lost_changes_nothing(run: RunDirectory) -> None:
    for update in range(3):
        run.metrics({"update": update})
    mark = run.mark(3)
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


@pytest.mark.parametrize("calls", range(8))
def test_a_kill_while_a_finished_run_is_evaluated_again_leaves_it_finished(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch, make_episode: Callable[..., Episode], calls: int
) -> None:
    finished(run).episodes("eval", [make_episode()])
    run.finish(run.result() or {})
    left = calls

    def until_killed(source: Any, target: Any, replace: Any = os.replace) -> None:
        nonlocal left
        if left == 0:
            raise KeyboardInterrupt
        left -= 1
        replace(source, target)

    with monkeypatch.context() as patch, contextlib.suppress(KeyboardInterrupt):
        patch.setattr("os.replace", until_killed)
        run.evaluation([{"world": "clerk"}, {"world": "steward"}])
        run.episodes("eval", [make_episode(), make_episode()])
    assert RunDirectory(run.path).status(weights=True) == "complete"
    run.evaluation([{"world": "pact"}])
    assert RunDirectory(run.path).status(weights=True) == "complete"
    assert "replacing" not in (run.result() or {})


@pytest.mark.parametrize("damage", [b"", b'{"update": 0}\n', b'{"update": 0}\n{"upd\n{"update": 2}\n', None])
def test_no_state_is_marked_and_no_run_is_finished_over_lost_rows(run: RunDirectory, damage: bytes | None) -> None:
    for update in range(3):
        run.metrics({"update": update})
    assert run.mark(3)["rows"] == 3
    (run.path / "metrics.jsonl").unlink() if damage is None else (run.path / "metrics.jsonl").write_bytes(damage)
    for refused in (lambda: run.mark(3), lambda: run.check_rows(3), lambda: run.finish({"updates": 3})):
        with pytest.raises(LostFilesError, match=r"metrics\.jsonl"):
            refused()
    assert run.status() == "partial"


def test_no_run_is_finished_over_a_file_that_has_changed_since_it_was_written(
    run: RunDirectory, make_episode: Callable[..., Episode]
) -> None:
    run.episodes("train-000000", [make_episode()])
    run.evaluation([{"world": "clerk"}])
    (run.path / "eval.jsonl").write_text('{"world": "snork"}\n')
    with pytest.raises(LostFilesError, match=r"eval\.jsonl has other contents"):
        run.finish({})
    run.evaluation([{"world": "clerk"}])
    (run.path / "episodes" / "train-000000.parquet").unlink()
    with pytest.raises(LostFilesError, match=r"train-000000\.parquet is missing"):
        run.mark(0)


def test_a_full_disk_is_told_and_leaves_the_finished_result(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    finished(run)

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
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
