"""What all verbs share: version, first line, volume, and words for common mistakes."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from launch_fakes import study
from pydantic import BaseModel, Field, TypeAdapter, ValidationError
from rich.console import Console

import launch.cli
from launch import terminal
from launch.config.stages import Stage, updates_known
from launch.config.train import TrainConfig
from launch.console import SILENT, dotted_flag, first_line, in_words, silence_libraries
from launch.distributed.run_worker import QUIET, Job
from launch.errors import plain
from launch.storage.checkpoint import Checkpoints, State
from launch.storage.rundir import RunDirectory
from launch.study import updates_done
from launch.tracking.progress import Display


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr("sys.argv", ["shaping", *arguments])
    with pytest.raises(SystemExit) as ended:
        launch.cli.main()
    monkeypatch.setattr(terminal, "volume", 0)
    return int(ended.value.code or 0)


def test_the_version_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(monkeypatch, "--version") == 0
    assert capsys.readouterr().out == f"shaping 0.1.0, Python {sys.version.split()[0]}\n"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            ["study", "q", "--train.updates", "3"],
            "--train.updates: overrides are written without dashes: train.updates=3",
        ),
        (
            ["study", "q", "--train.updates=3"],
            "--train.updates=3: overrides are written without dashes: train.updates=3",
        ),
        (["study", "q", "--eval.worlds"], "--eval.worlds: overrides are written without dashes: eval.worlds=VALUE"),
        (["study", "q", "train.updates=3", "--seeds", "0-3"], ""),
        (["study", "q", "--only", "a.b", "--", "--train.updates"], ""),
    ],
)
def test_an_override_that_is_written_like_an_option_gets_a_hint(words: list[str], told: str) -> None:
    assert dotted_flag(words) == told


def test_the_hint_is_the_whole_message(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(monkeypatch, "study", "quickstart", "--train.updates", "3") == 1
    shown = capsys.readouterr()
    assert shown.err == "error: --train.updates: overrides are written without dashes: train.updates=3\n"


def test_a_wrong_path_is_no_unexpected_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def reads(*_: Any, **__: Any) -> None:
        (tmp_path / "nowhere").read_text()

    monkeypatch.setattr("launch.config.loading.load_study", reads)
    assert call(monkeypatch, "study", "q") == 1
    assert capsys.readouterr().err == (
        f"error: {tmp_path / 'nowhere'}: No such file or directory; check the path and who may read and write it\n"
    )
    assert in_words(OSError("no file is named")) == in_words(KeyError("a")) == ""


class Settings(BaseModel):
    lr: float = Field(gt=0)
    name: str


def test_refused_values_are_told_without_the_words_of_the_library() -> None:
    with pytest.raises(ValidationError) as refused:
        Settings.model_validate({"lr": -1})
    assert plain(refused.value) == "lr: Input should be greater than 0 (got -1)\nname: Field required"
    assert in_words(refused.value) == plain(refused.value)
    for internal in ("pydantic", "type=", "input_value", "validation error"):
        assert internal not in plain(refused.value)


def test_a_verb_that_says_nothing_for_long_is_announced_once(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(sys, "__stderr__", stream)
    for arguments, said, shown in (
        (["study", "q"], False, "study: loading ...\n"),
        (["-q", "study"], True, ""),
        (["--help"], False, ""),
    ):
        with first_line(arguments, 0.05):
            if said:
                terminal.say("something", err=True)
            time.sleep(0.2)
        assert stream.getvalue().replace("something\n", "") == shown
        stream.seek(0)
        stream.truncate()


def test_libraries_show_no_bars_here_nor_in_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SILENT:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TRANSFORMERS_VERBOSITY", "debug")  # what a user has set stays
    silence_libraries()
    assert os.environ["TRANSFORMERS_VERBOSITY"] == "debug" and os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] == "1"
    assert SILENT.items() <= QUIET.items()
    code = "from transformers.utils import logging; print(logging.is_progress_bar_enabled())"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout == "False\n"


def test_quiet_shows_warnings_and_no_progress(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(terminal, "volume", -1)
    display = Display()
    display.start("a", 3)
    display.note("a detail")
    display.note("warning: a: nothing was learned", warning=True)
    assert capsys.readouterr().err == "warning: a: nothing was learned\n"


def test_a_resumed_run_starts_at_its_real_progress(tmp_path: Path) -> None:
    run = study(tmp_path, {"arm": ""}).runs()[0]
    job = Job(run, tmp_path / "run", tmp_path / "log", tmp_path, "", (), (tmp_path, ""), {})
    assert updates_done(job) == 0
    directory = RunDirectory(job.directory)
    directory.create(run.recorded, {})
    assert updates_done(job) == 0
    Checkpoints.of(directory, run).save(State(2, {}, {}, {}))
    assert updates_done(job) == 2
    shown = io.StringIO()
    display = Display(Console(file=shown))
    display.start("a", 5, 2)
    display._last_line = -1e9
    display.heartbeat()
    assert shown.getvalue() == "a: resumes after update 2 of 5\nrunning: a 2/5\n"


def drawn(display: Display) -> str:
    """The bars as they would be drawn now."""
    assert display.bars is not None
    shown = io.StringIO()
    Console(file=shown, width=200).print(display.bars.get_renderable())
    return shown.getvalue()


def test_the_updates_of_a_stage_on_rows_are_known_by_its_steps_alone() -> None:
    train = TrainConfig.model_validate({"worlds": {"clerk": {}}, "updates": 7, "groups": 1, "group_size": 2})
    rows = {"kind": "supervised", "data": {"file": "rows.jsonl"}}
    kinds: TypeAdapter[Any] = TypeAdapter(list[Stage])
    stages = kinds.validate_python([rows | {"steps": 3}, {"kind": "rl", "train": {"updates": 9}}])
    assert [updates_known(part, train) for part in ([], stages, stages[:1])] == [7, 9, 3]
    assert updates_known(kinds.validate_python([rows]), train) is None
    shown = io.StringIO()
    display = Display(Console(file=shown))
    display.start("a", None, 2)
    display.update("a", 4, {})
    display._last_line = -1e9
    display.heartbeat()
    assert shown.getvalue() == "a: resumes after update 2\nrunning: a 4\n"
    bars = Display(Console(file=io.StringIO(), force_terminal=True))
    bars.stage(1, 2, "pre-training, loss 2.1")
    before = drawn(bars)
    bars.begin(3)
    bars.start("a", None)
    bars.start("b", 5)
    runs = drawn(bars)
    assert "1/2" in before and "0/3" in runs and "0/5" in runs and "None" not in runs
