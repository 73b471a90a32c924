"""Trackers look on: each is told the whole run, a resumed run goes on in it, and none can harm training."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from launch_fakes import study
from tracker_fakes import Recorder
from waiting import wait_until

import launch
from launch.config.loading import parse_study
from launch.config.study import RunConfig
from launch.errors import UserError
from launch.preflight import check_plugins
from launch.storage.rundir import RunDirectory
from launch.storage.studydir import open_study
from launch.tracking.trackers import TensorBoard, numbers
from launch.tracking.tracking import tracked


@pytest.fixture(autouse=True)
def _no_memories(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Recorder, "told", [])


RunOf = Callable[..., RunConfig]


@pytest.fixture
def run_of(tmp_path: Path) -> RunOf:
    """The first run of a small study with trackers."""

    def build(*tracking: Any) -> RunConfig:
        return study(tmp_path, {"unshaped": ""}, tracking=list(tracking)).runs()[0]

    return build


def directory_of(run: RunConfig, output: Path) -> RunDirectory:
    return RunDirectory(output / run.study / "runs" / run.directory_name)


class Killed(Exception):
    pass


@tracked
def train(run: RunConfig, model: Path, directory: RunDirectory, on_update: Callable[..., None]) -> dict[str, Any]:
    """Three updates, with a saved state after the second; `model` says where it goes wrong."""
    saved = directory.state / "update-000002" / "mark.json"
    first = 2 if saved.exists() else 0
    if first:
        directory.rewind(json.loads(saved.read_text()))
    else:
        directory.create(run.model_dump(mode="json"), {})
    for update in range(first, 3):
        row = {"phase": "train", "update": update, "reward": update / 10, "loss": float("nan")}
        directory.metrics(row)
        on_update(update, row)
        if update == 1:
            saved.parent.mkdir(parents=True)
            saved.write_text(json.dumps(directory.mark(2)))
        if model.name == f"killed-{update}":
            raise Killed
        if model.name == "loses-a-rank" and update == 2:
            on_update(1, row)
            on_update(2, row)
    result = {"arm": run.arm, "seed": run.seed, "updates": 3, "summary": {"power": 0.25}}
    directory.finish(result)
    return result


def go(run: RunConfig, output: Path, model: str = "sound") -> dict[str, Any]:
    return train(run, Path(model), directory_of(run, output), lambda *_: None)


HERE = "tracker_fakes:"


def test_a_tracker_is_told_the_start_every_update_and_the_result(run_of: RunOf, tmp_path: Path) -> None:
    run = run_of(HERE + "Recorder")
    go(run, tmp_path)
    assert [what for what, _ in Recorder.told] == ["start", "log", "log", "log", "finish"]
    started = Recorder.told[0][1]
    assert (started.study, started.name, started.first) == ("small", "unshaped/seed-0", 0)
    assert started.config == run.model_dump(mode="json")
    assert started.folder == tmp_path / "small" / "tracking"
    assert Recorder.told[-1] == ("finish", 0)


def test_a_killed_run_goes_on_under_the_same_id_and_a_fresh_one_under_another(run_of: RunOf, tmp_path: Path) -> None:
    run = run_of(HERE + "Recorder")
    with pytest.raises(Killed):
        go(run, tmp_path, "killed-1")
    assert Recorder.told[-1] == ("finish", None)
    go(run, tmp_path)
    first, second = (told for what, told in Recorder.told if what == "start")
    assert (second.id, second.first) == (first.id, 2)
    assert not directory_of(run, tmp_path).state.exists(), "a finished run keeps no id"

    other = tmp_path / "fresh"
    with pytest.raises(Killed):
        go(run, other, "killed-0")  # before any state was saved: it restarts from the beginning
    go(run, other)
    assert len({told.id for what, told in Recorder.told if what == "start"}) == 3


def test_a_run_that_goes_back_to_a_state_tells_steps_that_rise(run_of: RunOf, tmp_path: Path) -> None:
    go(run_of(HERE + "Recorder"), tmp_path, "loses-a-rank")
    told = [told if what == "log" else what for what, told in Recorder.told]
    assert told == ["start", 0, 1, 2, "finish", "start", 1, 2, "finish"]
    starts = [told for what, told in Recorder.told if what == "start"]
    assert (starts[1].first, starts[1].id) == (1, starts[0].id)


@pytest.mark.parametrize(
    ("where", "told"),
    [("start", "no route to host"), ("log", "a login is needed"), ("finish", "the upload failed")],
)
def test_a_tracker_that_fails_is_told_once_and_left_out(
    run_of: RunOf, tmp_path: Path, capsys: pytest.CaptureFixture[str], where: str, told: str
) -> None:
    result = go(run_of({"use": HERE + "Breaks", "note": where}, HERE + "Recorder"), tmp_path)
    assert result["summary"] == {"power": 0.25}
    err = capsys.readouterr().err
    assert err.count("training continues") == 1
    assert f"tracking.0 ({HERE}Breaks) failed" in err
    assert told in err
    assert [what for what, _ in Recorder.told] == ["start", "log", "log", "log", "finish"], "the other one goes on"


def test_who_looks_on_is_no_part_of_a_run(run_of: RunOf, tmp_path: Path) -> None:
    seen, unseen = run_of(HERE + "Recorder"), run_of()
    assert seen.digest == unseen.digest
    assert seen.model_dump(mode="json") == unseen.model_dump(mode="json")
    go(seen, tmp_path)
    assert directory_of(unseen, tmp_path).status() == "complete"


def test_tracking_may_be_turned_on_in_a_study_that_has_started(tmp_path: Path) -> None:
    for tracking in ([], ["tensorboard"], [{"use": "wandb", "mode": "offline"}]):
        with open_study(study(tmp_path, {"unshaped": ""}, tracking=tracking), force=False, note=print) as found:
            assert json.loads((found.path / "study.json").read_text())["config"]["name"] == "small"


@pytest.mark.parametrize(
    ("tracking", "told"),
    [
        ("tensorbored", "tracking.0: unknown tracker 'tensorbored' (did you mean 'tensorboard'?)"),
        ("nowhere.at_all:Class", "module 'nowhere.at_all' does not import"),
        ("launch.errors:ConfigError", "is no tracker: it has no start, log, finish"),
        ({"use": HERE + "Recorder", "nota": 1}, "unexpected keyword argument 'nota'"),
        ({"use": "wandb", "projct": "x"}, "tracking.0 (wandb): unknown field 'projct' (did you mean 'project'?)"),
        (
            {"use": "wandb", "mode": "offlin"},
            "tracking.0 (wandb): mode: write one of online, offline, disabled, shared",
        ),
        ({"use": "wandb", "settings": {"sillent": True}}, "sillent"),
        ({"use": "wandb", "run_id": "x"}, "unknown field 'run_id'"),
        ({"use": "wandb", "resume": "must"}, "resume cannot be set: they identify the run"),
        ({"use": "trackio", "space": "x"}, "tracking.0 (trackio): unknown field 'space' (did you mean 'space_id'?)"),
        ({"use": "trackio", "dir": 3}, "dir: write a folder, not 3"),
        ({"use": "tensorboard", "folder": "x"}, "unexpected keyword argument 'folder'"),
        ({"use": "tensorboard", "dir": ["x"]}, "dir: write a folder, not ['x']"),
        ({"use": HERE + "Unbuildable"}, "KeyError: 'no such thing'"),
    ],
)
def test_a_tracker_that_cannot_be_is_refused_before_anything_starts(run_of: RunOf, tracking: Any, told: str) -> None:
    with pytest.raises(UserError) as error:
        check_plugins([run_of(tracking)])
    assert told in str(error.value)


def test_what_a_dry_run_passes_is_what_the_run_builds(run_of: RunOf) -> None:
    """Fields that packages know: the check builds the trackers themselves, and starts none."""
    mine = {"use": "wandb", "mode": "offline", "tags": ["a"], "settings": {"silent": True}}
    check_plugins([run_of(mine, {"use": "trackio", "space_id": "me/mine"}, {"use": "tensorboard", "dir": "~/boards"})])
    assert TensorBoard("~/boards").dir == Path("~/boards").expanduser()


def test_an_absent_package_is_named_with_its_extra(run_of: RunOf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("launch.tracking.tracking.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"wandb is not installed; pip install 'shaping\[wandb\]'"):
        check_plugins([run_of("wandb")])


def test_bundled_studies_have_no_tracker() -> None:
    document = study(Path("runs"), {"unshaped": ""}).model_dump(mode="json")
    assert parse_study(document, "test").tracking == []


def test_only_finite_numbers_are_drawn() -> None:
    row = {"phase": "train", "update": 3, "reward": 1, "loss": float("nan"), "kl": None, "on": True}
    assert numbers(row) == {"reward": 1.0}


def test_tensorboard_shows_a_resumed_run_as_one_line(run_of: RunOf, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="needs shaping[tensorboard]")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = run_of("tensorboard")
    with pytest.raises(Killed):
        go(run, tmp_path, "killed-2")  # one row more than the state that it resumes from
    go(run, tmp_path)
    found = EventAccumulator(str(tmp_path / "small" / "tracking" / "tensorboard" / "unshaped" / "seed-0"))
    found.Reload()
    assert [(e.step, round(e.value, 6)) for e in found.Scalars("reward")] == [(0, 0.0), (1, 0.1), (2, 0.2)]
    assert [e.value for e in found.Scalars("summary/power")] == [0.25]
    assert "loss" not in found.Tags()["scalars"], "what was never a number is not drawn"


def test_the_tracker_in_the_docs_works(run_of: RunOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    docs = (Path(launch.__file__).parent.parent / "docs" / "tracking.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", docs, re.DOTALL)
    (tmp_path / "tracker_of_the_docs.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    go(run_of({"use": "tracker_of_the_docs:Lines", "path": str(tmp_path / "lines")}), tmp_path)
    assert (tmp_path / "lines").read_text() == "0 0.0\n1 0.1\n2 0.2\n"


def test_trackio_keeps_a_run_in_its_own_database(
    run_of: RunOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("trackio", reason="needs shaping[trackio]")
    import trackio.utils

    monkeypatch.setenv("TRACKIO_DIR", str(trackio.utils.TRACKIO_DIR))
    name = f"shaping-test-{tmp_path.name}"  # its folder was fixed when it was imported first
    run = run_of({"use": "trackio", "project": name})
    with pytest.raises(Killed):
        go(run, tmp_path, "killed-1")
    go(run, tmp_path)
    from trackio.sqlite_storage import SQLiteStorage

    path = Path(SQLiteStorage.get_project_db_path(name))
    try:
        with sqlite3.connect(path) as database:
            rows = database.execute("select run_name, step, metrics from metrics order by id").fetchall()
    finally:
        path.unlink()
    assert len({run_name for run_name, _, _ in rows}) == 1
    assert [(step, json.loads(metrics)) for _, step, metrics in rows] == [
        *[(step, {"reward": step / 10}) for step in range(3)],
        (3, {"summary/power": 0.25}),
    ]


def test_wandb_keeps_a_resumed_run_under_one_id_offline(
    run_of: RunOf, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("wandb", reason="needs shaping[wandb]")
    run = run_of({"use": "wandb", "mode": "offline"})
    with pytest.raises(Killed):
        go(run, tmp_path, "killed-1")
    go(run, tmp_path)
    assert "training goes on" not in capsys.readouterr().err
    folders = sorted((tmp_path / "small" / "tracking" / "wandb").glob("offline-run-*"))
    assert len(folders) == 2
    first, second = (next(folder.glob("*.wandb")) for folder in folders)
    assert first.name == second.name, "one id"
    wait_until(lambda: b"power" in second.read_bytes())  # its own process writes the file, a little later
    assert b"reward" in first.read_bytes()
    assert b"power" not in first.read_bytes(), "the result comes when the run is finished"


def test_wandb_without_a_login_never_asks(
    run_of: RunOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("wandb", reason="needs shaping[wandb]")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    go(run_of("wandb"), tmp_path)
    assert "not logged in: set WANDB_API_KEY" in capsys.readouterr().err
