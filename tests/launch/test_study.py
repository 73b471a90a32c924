"""Studies on a real local Ray: every run is executed or accounted for, and what is finished is never lost."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
import yaml
from launch_fakes import START_MODEL, TRAINER, results, study
from spoken_lines import Lines
from waiting import interruptible_children, patience, wait_until

from launch.config.study import StudyConfig
from launch.distributed.local import RaySettings
from launch.distributed.run_worker import archive, extract
from launch.errors import DiskFullError, RunDirectoryError
from launch.storage.rundir import RunDirectory
from launch.study import StudyResult, run_study

CLI = Path(__file__).parents[1] / "support" / "cli_with_fakes.py"


def here(config: StudyConfig, lines: Lines | None = None, **arguments: Any) -> StudyResult:
    """Run in this process, without Ray."""
    return run_study(config, trainer=TRAINER, start_model=START_MODEL, display=lines or Lines(), **arguments)


@pytest.fixture
def command(tmp_path: Path) -> Iterator[Callable[[StudyConfig], subprocess.Popen[str]]]:
    """Start `shaping study` on a config in a process of its own, and leave none behind."""
    started: list[subprocess.Popen[str]] = []

    def start(config: StudyConfig) -> subprocess.Popen[str]:
        file = tmp_path / "study.yaml"
        file.write_text(yaml.safe_dump(config.model_dump(mode="json")))
        arguments = [sys.executable, str(CLI), "study", str(file), "--cpus", "2"]
        pipes = {"stderr": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        with interruptible_children():
            process = subprocess.Popen(arguments, **pipes, cwd=tmp_path, start_new_session=True)  # type: ignore[call-overload]
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Wait while the process runs."""

    def met() -> bool:
        assert process.poll() is None, process.communicate()
        return condition()

    wait_until(met, 60)


def test_every_run_ends_well_or_is_reported_and_the_others_go_on(tmp_path: Path) -> None:
    roles = {"fine": "", "raises": "raises", "exits": "exits", "stumbles": "stumbles", "crashes": "crashes"}
    lines = Lines()
    config = study(tmp_path / "runs", roles, seeds=1)
    result = run_study(config, cluster=RaySettings(cpus=2), trainer=TRAINER, start_model=START_MODEL, display=lines)

    done = results(result.directory)
    assert sorted(result.finished) == sorted(done) == ["crashes/seed-0", "fine/seed-0", "stumbles/seed-0"]
    assert {row["threads"] for row in done.values()} == {"1"}
    assert os.getpid() not in {row["pid"] for row in done.values()}
    failed = {failure.name: failure for failure in result.failed}
    assert sorted(failed) == ["exits/seed-0", "raises/seed-0"]
    assert "worker process died" in failed["exits/seed-0"].message
    assert failed["raises/seed-0"].message == "ArithmeticError: the loss is not finite"
    log = failed["raises/seed-0"].log.read_text()
    assert log.count("training raises/seed-0") == log.count("Traceback") == 2  # tried twice, both in the log
    assert sum("trying once more" in line for line in lines.said) == 4
    assert any(line.startswith("model: pre-training") for line in lines.said)
    assert not ray.is_initialized()
    assert not (result.directory / "study.lock").exists()


def test_workers_that_share_no_disk_with_the_driver_send_their_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("launch.study.marker_of", lambda path: (path, "not what a worker finds there"))
    config = study(tmp_path / "runs", {"fine": "", "raises": "raises"}, seeds=1)
    cluster = RaySettings(cpus=2)
    result = run_study(config, cluster=cluster, trainer=TRAINER, start_model=START_MODEL, display=Lines())
    assert RunDirectory(result.directory / "runs" / "fine" / "seed-0").status() == "complete"
    assert "ArithmeticError" in result.failed[0].log.read_text()
    assert os.listdir(result.directory / "runs" / "fine") == ["seed-0"]


def test_a_model_survives_the_way_to_another_machine(tmp_path: Path) -> None:
    (tmp_path / "model" / "sub").mkdir(parents=True)
    (tmp_path / "model" / "sub" / "weights").write_bytes(b"123")
    extract(archive(tmp_path / "model"), tmp_path / "there")
    assert (tmp_path / "there" / "sub" / "weights").read_bytes() == b"123"


def test_a_study_goes_on_after_its_driver_was_killed(tmp_path: Path, command: Any) -> None:
    config = study(tmp_path / "runs", {"fine": "", "waits": "waits"}, seeds=1)
    directory = tmp_path / "runs" / "small"
    process = command(config)
    cut = directory / "runs" / "waits" / "seed-0" / "metrics.jsonl"
    wait_for(lambda: len(results(directory)) == 1 and cut.exists() and cut.stat().st_size > 0, process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = (directory / "runs" / "fine" / "seed-0" / "result.json").read_bytes()
    assert RunDirectory(cut.parent).status() == "partial"

    lines = Lines()
    assert here(config, lines).finished == ["waits/seed-0"]
    assert any("taking over the lock" in line for line in lines.said)
    assert "1 of 2 runs are finished already and are kept" in lines.said
    assert any("1 half-written run restarts from the beginning" in line for line in lines.said)
    assert (directory / "runs" / "fine" / "seed-0" / "result.json").read_bytes() == kept


@pytest.mark.usefixtures("deaf_to_interrupts")
def test_a_second_process_is_refused_while_the_first_runs_which_ctrl_c_stops_cleanly(
    tmp_path: Path, command: Any
) -> None:
    config = study(tmp_path / "runs", {"slow": "slow"}, seeds=2, train=_train(updates=600))
    directory = tmp_path / "runs" / "small"
    process = command(config)
    wait_for(lambda: len(list(directory.glob("runs/*/*/metrics.jsonl"))) == 2, process)
    with pytest.raises(RunDirectoryError, match=f"process {process.pid} on"):
        here(config)
    os.killpg(process.pid, signal.SIGINT)  # a terminal sends it to every process of the group
    _, told = process.communicate(timeout=patience(60))
    assert process.returncode == 130
    assert "To go on: shaping study" in told
    assert "Traceback" not in told
    assert not (directory / "study.lock").exists()
    sizes = [path.stat().st_size for path in directory.glob("runs/*/*/metrics.jsonl")]
    time.sleep(0.5)
    assert [path.stat().st_size for path in directory.glob("runs/*/*/metrics.jsonl")] == sizes  # workers are gone


# Without Ray: the same rules ------------------------------------------------------------------------------------------


def _train(**changes: Any) -> dict[str, Any]:
    return {"worlds": {"steward": {"size": 2}}, "updates": 3, "groups": 1, "group_size": 2, **changes}


def _one_folder_each(config: Any, progress: Callable[[int, int, str], None]) -> Path:
    progress(1, 2, "pre-training, loss 0.1")
    path = Path(os.environ["FAKE_MODEL"]) / f"seed-{config.organism.seed}"
    path.mkdir(parents=True)  # it is made once
    (path / "config.json").write_text("{}")
    return path


def test_every_organism_is_made_once_and_each_replicate_starts_from_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: dict[str, str] = {}

    def train(job: Any, model: Path, directory: RunDirectory, report: Any) -> None:
        started[job.name] = model.name
        directory.create(job.run.model_dump(mode="json"), {})
        directory.finish({"seed": job.run.seed})

    class Stages(Lines):
        def stage(self, done: int, total: int, what: str) -> None:
            self.said.append(what)

    monkeypatch.setattr("launch.study.train", train)
    monkeypatch.setattr("launch.study.load_function", lambda name: _one_folder_each)
    config, lines = study(tmp_path, {"a": "", "b": ""}, model={"organism": {"seeds": 2, "seed": 3}}, seeds=3), Stages()
    assert not here(config, lines).failed
    assert started == {f"{arm}/seed-{seed}": f"seed-{3 + seed % 2}" for arm in "ab" for seed in range(3)}
    assert [line for line in lines.said if "pre-training" in line] == [
        "organism-3: pre-training, loss 0.1",
        "organism-4: pre-training, loss 0.1",
    ]
    assert sorted(path.stem for path in (tmp_path / "small" / "model").glob("*.json")) == ["seed-3", "seed-4"]


def test_organisms_that_no_replicate_starts_from_are_told(tmp_path: Path) -> None:
    lines = Lines()
    here(study(tmp_path, {"a": ""}, model={"organism": {"seeds": 4}}, seeds=2), lines)
    assert "model.organism.seeds asks for 4 organisms, of which the seeds of this study use 2" in lines.said[0]


def test_seeds_run_in_parts_and_the_next_part_goes_on(tmp_path: Path) -> None:
    config = study(tmp_path, {"a": "", "b": ""}, seeds=4)
    first = here(config, seeds=[0, 2])
    assert sorted(first.finished) == ["a/seed-0", "a/seed-2", "b/seed-0", "b/seed-2"] and not first.kept
    again = here(config, seeds=[2, 3], only=["b"])
    assert again.finished == ["b/seed-3"] and again.kept == ["b/seed-2"]
    assert sorted(here(config).finished) == ["a/seed-1", "a/seed-3", "b/seed-1"]


def test_finished_runs_are_not_repeated(tmp_path: Path) -> None:
    config = study(tmp_path, {"a": "", "b": ""})
    assert len(here(config, only=["a"]).finished) == 2
    before = {name: path.read_bytes() for name, path in _result_files(tmp_path).items()}
    second = here(config)
    assert sorted(second.kept) == ["a/seed-0", "a/seed-1"]
    assert sorted(second.finished) == ["b/seed-0", "b/seed-1"]
    assert {name: path.read_bytes() for name, path in _result_files(tmp_path).items() if name in before} == before
    assert here(config).finished == []


def _result_files(output: Path) -> dict[str, Path]:
    return {str(path.parent): path for path in output.glob("small/runs/*/*/result.json")}


def test_a_run_that_was_truncated_after_its_end_is_set_aside_and_made_again(tmp_path: Path) -> None:
    config = study(tmp_path, {"a": ""}, seeds=1)
    path = here(config).directory / "runs" / "a" / "seed-0" / "metrics.jsonl"
    whole = path.read_text()
    path.write_text(whole[:-5])
    lines = Lines()
    assert here(config, lines).finished == ["a/seed-0"]
    assert any("metrics.jsonl has" in line and "was set aside as seed-0.set-aside-1" in line for line in lines.said)
    assert path.read_text() == whole
    assert (path.parents[1] / "seed-0.set-aside-1" / "metrics.jsonl").read_text() == whole[:-5]
    assert here(config).kept == ["a/seed-0"]


def test_another_config_in_the_same_directory_is_refused_with_the_difference(tmp_path: Path) -> None:
    here(study(tmp_path, {"a": ""}))
    with pytest.raises(RunDirectoryError) as raised:
        here(study(tmp_path, {"a": ""}, train=_train(updates=4)))
    assert "train.updates: 3 -> 4" in str(raised.value)
    assert "--force" in str(raised.value)


def test_force_keeps_unchanged_runs_and_sets_the_others_aside(tmp_path: Path) -> None:
    here(study(tmp_path, {"a": "", "b": ""}, seeds=1))
    changed = {"a": "", "b": {"label": "changed"}}
    result = here(study(tmp_path, changed, seeds=2), force=True)
    assert result.kept == ["a/seed-0"]
    assert sorted(result.finished) == ["a/seed-1", "b/seed-0", "b/seed-1"]
    aside = list((result.directory / "set-aside").glob("*/b/seed-0"))
    assert [RunDirectory(path).status() for path in aside] == ["complete"]


def test_a_foreign_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "small").mkdir()
    (tmp_path / "small" / "holiday.jpg").touch()
    with pytest.raises(RunDirectoryError, match="holds no study"):
        here(study(tmp_path, {"a": ""}))
    assert os.listdir(tmp_path / "small") == ["holiday.jpg"]


def test_a_foreign_directory_in_place_of_a_run_is_refused_before_anything_starts(tmp_path: Path) -> None:
    config = study(tmp_path, {"a": "", "b": ""}, seeds=1)
    here(config, only=["a"])
    foreign = tmp_path / "small" / "runs" / "b" / "seed-0"
    foreign.mkdir(parents=True)
    (foreign / "notes.txt").touch()
    with pytest.raises(RunDirectoryError, match=re.escape(str(foreign))):
        here(config)
    assert (foreign / "notes.txt").exists()


def test_a_lock_of_a_dead_process_is_taken_over(tmp_path: Path) -> None:
    (tmp_path / "small").mkdir()
    (tmp_path / "small" / "study.lock").write_text(json.dumps({"pid": 2**22 + 1, "host": "elsewhere"}))
    lines = Lines()
    assert here(study(tmp_path, {"a": ""}, seeds=1), lines).finished == ["a/seed-0"]
    assert any("taking over the lock of process 4194305 on elsewhere" in line for line in lines.said)


def test_a_full_disk_stops_the_study_and_keeps_finished_runs(tmp_path: Path) -> None:
    config = study(tmp_path, {"a": "", "full": "full", "later": ""}, seeds=1)
    with pytest.raises(DiskFullError, match="finished runs are intact"):
        here(config)
    assert list(results(tmp_path / "small")) == ["a/seed-0"]
    assert not (tmp_path / "small" / "study.lock").exists()


def test_no_space_is_noticed_before_anything_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("launch.storage.space.RUN_BYTES", 10**18)
    with pytest.raises(DiskFullError, match="needs about"):
        here(study(tmp_path, {"a": ""}))
    assert results(tmp_path / "small") == {}
