"""What a study has finished is never lost, and never believed once it has changed.

Promised: a finished run is not deleted and not trained again because of files that others leave in its directory. Where
one of its own files has changed, by a byte or by all of them, the run is set aside with a note, and made again. Rows
that disappear while a run trains are played again, and no run ends without them. Lines of JSON end at a line feed,
whatever characters a world or a label holds. A run goes on, and is kept, only with the start model and the plug-ins
that it was begun with. Nothing is written through a link that leads out of the study.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from controller_worlds import FailsLater
from launch_fakes import START_MODEL, TRAINER, study
from spoken_lines import Lines

from launch.config.loading import parse_study
from launch.config.study import RunConfig, StudyConfig
from launch.errors import ConfigError, RunDirectoryError
from launch.report.build import build as report
from launch.run.execute import execute
from launch.run.models.start_model import start_model
from launch.storage import jsonl
from launch.storage.rundir import RunDirectory
from launch.storage.studydir import StudyDirectory
from launch.study import StudyResult, run_study

TINY = {"hidden": 32, "layers": 1, "heads": 2, "kv_heads": 1, "vocabulary": 400, "episodes": 12, "steps": 2}
SMALL: dict[str, Any] = {
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


@pytest.mark.parametrize(
    ("damage", "after"),
    [("removed", 0), ("emptied", 2), ("a damaged line", 2), ("a cut-off line", 3), ("removed", 3)],
)
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


# What a run started from ----------------------------------------------------------------------------------------------


def real(folder: Path, **changes: Any) -> StudyConfig:
    """A study that trains a model of a few thousand parameters, for one update."""
    train = {**SMALL["train"], "updates": 1}
    return parse_study({**SMALL, "train": train, "output": str(folder), **changes}, "test")


def go_on(config: StudyConfig, **arguments: Any) -> tuple[StudyResult, str]:
    """`shaping study`, and what it told."""
    lines = Lines()
    return run_study(config, display=lines, **arguments), "\n".join(lines.said)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-8] ^= 1  # the lowest bit of a weight
    path.write_bytes(data)


def test_a_cached_organism_that_has_changed_is_made_again_before_a_run_starts_from_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first, _ = go_on(real(tmp_path / "first"))
    flip(start_model(real(tmp_path).runs()[0].model) / "model.safetensors")
    second, _ = go_on(real(tmp_path / "second"))
    assert [record.getMessage() for record in caplog.records if "is made again" in record.getMessage()]
    files = [result.directory / "runs" / "unshaped" / "seed-0" / "metrics.jsonl" for result in (first, second)]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_runs_that_started_from_other_weights_at_the_same_path_are_not_kept_unasked(tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(start_model(real(tmp_path).runs()[0].model), model)
    config = real(tmp_path, model=str(model))
    go_on(config)
    (model / "README.md").write_text("notes about the model are no part of it")
    assert go_on(config)[0].kept == ["unshaped/seed-0"]
    flip(model / "model.safetensors")
    with pytest.raises(RunDirectoryError, match=r"start model: model\.safetensors differs"):
        go_on(config)
    result, told = go_on(config, force=True)
    assert result.finished == ["unshaped/seed-0"] and "made with another start model or other plug-ins" in told
    assert len(list(result.directory.glob("set-aside/*/unshaped/seed-0/result.json"))) == 1


def test_a_half_written_run_does_not_resume_from_other_weights(tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(start_model(real(tmp_path).runs()[0].model), model)
    run = parse_study({**SMALL, "model": str(model)}, "test").runs()[0]
    stopped = RunDirectory(tmp_path / "run")

    def stop(update: int, row: dict[str, Any]) -> None:
        if update == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        execute(run, model, stopped, stop)
    flip(model / "model.safetensors")
    with pytest.raises(RunDirectoryError, match=r"begun with other files .*model\.safetensors differs"):
        execute(run, model, stopped)


def test_a_weight_file_that_is_cut_off_is_told_with_its_path_before_anything_starts(tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(start_model(real(tmp_path).runs()[0].model), model)
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ConfigError, match=rf"^model: {re.escape(str(weights))} is cut off: it has \d+ of \d+ bytes"):
        go_on(real(tmp_path, model=str(model)))


PLUGIN = """
from rewards.base import Reward
import numpy as np

class Mine(Reward):
    def score(self, episode):
        return np.array([turn.reward for turn in episode.turns])
"""


def test_runs_that_were_made_with_other_code_of_a_plug_in_are_not_kept_unasked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "my_own_reward.py"
    source.write_text(PLUGIN)
    monkeypatch.syspath_prepend(tmp_path)
    config = real(tmp_path, arms={"unshaped": {"role": "reference", "reward": "my_own_reward:Mine"}})
    go_on(config)
    assert go_on(config)[0].kept == ["unshaped/seed-0"]
    source.write_text(PLUGIN.replace("turn.reward ", "2 * turn.reward "))
    with pytest.raises(RunDirectoryError, match=r"plug-in my_own_reward:Mine: my_own_reward\.py differs"):
        go_on(config)
    assert go_on(config, force=True)[0].finished == ["unshaped/seed-0"]


# Studies that are edited ----------------------------------------------------------------------------------------------


def test_an_arm_that_failed_may_be_mended_and_started_again_as_it_is(tmp_path: Path) -> None:
    broken = again(study(tmp_path, {"a": "", "b": "raises"}, seeds=1))
    assert broken.finished == ["a/seed-0"] and [failure.name for failure in broken.failed] == ["b/seed-0"]
    mended = again(study(tmp_path, {"a": "", "b": ""}, seeds=1))
    assert mended.kept == ["a/seed-0"] and mended.finished == ["b/seed-0"]
    assert len(list(mended.directory.glob("set-aside/*/b/seed-0/run.json"))) == 1, "nothing is deleted"


def test_an_arm_that_is_finished_may_not_be_changed_unasked(tmp_path: Path) -> None:
    again(study(tmp_path, {"a": "", "b": "raises"}, seeds=1))
    with pytest.raises(RunDirectoryError, match=r"arms\.a\.label: '' -> 'better'"):
        again(study(tmp_path, {"a": "better", "b": ""}, seeds=1))
    with pytest.raises(RunDirectoryError, match="seeds: 1 -> 2"):
        again(study(tmp_path, {"a": "", "b": ""}, seeds=2))


# Links ----------------------------------------------------------------------------------------------------------------


def told_of(config: StudyConfig, start: Callable[[StudyConfig], StudyResult]) -> str:
    """What goes wrong with a study: the refusal to start, or the failure of its run."""
    try:
        result = start(config)
    except RunDirectoryError as error:
        return str(error)
    return result.failed[0].message if result.failed else ""


@pytest.mark.parametrize("link", ["runs", "runs/unshaped", "runs/unshaped/seed-0"])
def test_no_run_is_written_through_a_link_that_leads_out_of_the_study(tmp_path: Path, link: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    path = tmp_path / "in" / "small" / link
    path.parent.mkdir(parents=True)
    config = real(tmp_path / "in")
    marker = {"format": "shaping-study", "version": 1, "config": config.model_dump(mode="json")}
    (tmp_path / "in" / "small" / "study.json").write_text(json.dumps(marker))
    path.symlink_to(outside)
    assert f"{path} is a link that leads out of" in told_of(config, lambda config: go_on(config)[0])
    assert list(outside.iterdir()) == []


@pytest.mark.parametrize("link", ["episodes", "checkpoint", "state", "eval.jsonl", "timings.jsonl", "metrics.jsonl"])
def test_no_link_in_a_run_is_followed(run: RunConfig, undisturbed: bytes, tmp_path: Path, link: str) -> None:
    outside, path = tmp_path / "outside", tmp_path / "run" / link
    outside.mkdir()
    target = outside / "x.jsonl" if link.endswith("jsonl") else outside
    target.touch()

    def attack(update: int, row: dict[str, Any]) -> None:
        if update == 0:
            path.unlink(missing_ok=True)
            path.symlink_to(target)

    with contextlib.suppress(RunDirectoryError):
        execute(run, start_model(run.model), RunDirectory(tmp_path / "run"), attack)
        assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == undisturbed, "replaced, if it was not refused"
    assert [file.stat().st_size for file in outside.rglob("*")] in ([], [0])


@pytest.mark.parametrize("name", ["logs", "model", "set-aside", "tracking"])
def test_no_log_and_no_note_of_a_study_is_written_through_a_link(tmp_path: Path, name: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    tracking = [{"use": "tensorboard"}] if name == "tracking" else []
    config = real(tmp_path / "in", tracking=tracking, arms={"unshaped": {"role": "reference", "label": "x"}})
    small = go_on(real(tmp_path / "in"))[0].directory
    shutil.rmtree(small / name, ignore_errors=True)
    (small / name).symlink_to(outside)
    told_of(config, lambda config: go_on(config, force=True)[0])
    assert list(outside.iterdir()) == []


def test_no_report_is_written_through_a_link(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    small = go_on(real(tmp_path / "in"))[0].directory
    (small / "report").symlink_to(outside)
    with pytest.raises(RunDirectoryError, match="is a link that leads out of"):
        report(small)
    assert list(outside.iterdir()) == []


# Evaluations that fail ------------------------------------------------------------------------------------------------


def failing(folder: Path, every: int, monkeypatch: pytest.MonkeyPatch) -> tuple[StudyResult, str]:
    """A study in whose evaluation one of two worlds fails in every `every`-th episode, and what it told."""
    worlds = {"clerk": {"size": 2}, "controller_worlds:FailsLater": {"size": 2}}
    lines = Lines()

    def train(run: RunConfig, model: Path, directory: RunDirectory, on_update: Any) -> dict[str, Any]:
        monkeypatch.setattr(FailsLater, "armed", every)  # the checks before the study are over
        monkeypatch.setattr(FailsLater, "episodes", 0)
        return execute(run, model, directory, on_update)

    monkeypatch.setattr("launch_fakes.train", train)
    config = real(folder, eval={**SMALL["eval"], "worlds": worlds, "episodes": 2})
    return run_study(config, display=lines, trainer=TRAINER), "\n".join(lines.said)


def test_an_evaluation_that_always_fails_fails_its_run_and_names_the_cell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result, told = failing(tmp_path, 1, monkeypatch)
    assert result.finished == [] and len(result.failed) == 1
    assert re.search(r"all 2 episodes of the evaluation failed in .*[Ff]ails_?[Ll]ater.*the map is missing", told)


def test_cells_that_lose_episodes_are_told_on_the_terminal_and_in_the_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result, told = failing(tmp_path, 3, monkeypatch)
    assert result.finished == ["unshaped/seed-0"]
    assert re.search(r"do not trust fails_later.*: of 2 evaluation episodes 1 failed; .*the map is missing", told)
    page = report(result.directory)
    for text in (page.read_text(), (page.parent / "report.md").read_text()):
        assert "Do not trust the numbers of these evaluation cells" in text and "the map is missing" in text
