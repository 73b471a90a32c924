"""A run that is killed, at whatever point, and resumed ends as if it had not been: the same files, byte for byte."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from killed_runs import Wandering, disk_calls, killed, training

from launch.config.loading import parse_study
from launch.config.study import RunConfig
from launch.distributed.local import RaySettings
from launch.errors import RunDirectoryError
from launch.run.execute import execute
from launch.storage.rundir import RunDirectory
from launch.study import run_study
from launch.tracking.progress import Display

AUDIT, UPDATE = 2, 4
"""Episodes of one reward-access audit and of one update."""


@pytest.fixture(scope="module")
def fuse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuse") / "fuse"


def document(fuse: Path, **train: Any) -> dict[str, Any]:
    worlds = {"killed_runs:Deadly": {"size": 2, "horizon": 3, "fuse": str(fuse)}}
    small = {"updates": 7, "groups": 2, "group_size": 2, "max_tokens": 6}
    one = {"episodes": 1, "access_episodes": 1, "best_of": AUDIT, "watch": ["always"], "placebo": ["on"]}
    return {
        "name": "small",
        "seeds": 1,
        "train": {"worlds": worlds, **small, "checkpoint_every": 2, "save_episodes_every": 1, **train},
        "eval": {"worlds": worlds, **one},
        "rollout": {"env_threads": 0},  # a world that kills its process counts the episodes of the main thread
        "arms": {"wandering": {"role": "reference", "interventions": ["killed_runs:Wandering"]}},
    }


@pytest.fixture(scope="module")
def run(fuse: Path) -> RunConfig:
    return parse_study(document(fuse), "test").runs()[0]


def contents(path: Path) -> dict[str, bytes]:
    """Every file of a run but its wall times, and of run.json the config (the rest is the state of the source)."""
    files = {p.relative_to(path).as_posix(): p.read_bytes() for p in path.rglob("*") if p.is_file()}
    files["run.json"] = json.dumps(json.loads(files["run.json"])["config"]).encode()
    return {name: data for name, data in files.items() if name not in ("timings.jsonl", ".lock")}


def finished(run: RunConfig, model: Path, path: Path) -> dict[str, bytes]:
    execute(run, model, RunDirectory(path))
    assert RunDirectory(path).status() == "complete"
    return contents(path)


@pytest.fixture(scope="module")
def uninterrupted(run: RunConfig, model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return finished(run, model, tmp_path_factory.mktemp("uninterrupted") / "run")


@pytest.fixture
def stopped(run: RunConfig, model: Path, fuse: Path, tmp_path: Path) -> Path:
    """A run that was killed in its sixth update: it has states after two and four."""
    fuse.write_text(str(AUDIT + 5 * UPDATE + 2))
    assert killed(training, run, model, tmp_path / "run")
    return tmp_path / "run"


def test_two_runs_of_one_config_write_the_same_files(
    run: RunConfig, model: Path, tmp_path: Path, uninterrupted: dict[str, bytes]
) -> None:
    assert finished(run, model, tmp_path / "run") == uninterrupted
    assert not any(name.startswith("state") for name in uninterrupted)
    assert sum(name.startswith("episodes/train") for name in uninterrupted) == 7


@pytest.mark.parametrize(
    ("episode", "first"),
    [
        pytest.param(1, 0, id="initial audit"),
        pytest.param(AUDIT + UPDATE + 1, 0, id="before the first state"),
        pytest.param(AUDIT + 2 * UPDATE + 1, 2, id="right after the first state"),
        pytest.param(AUDIT + 5 * UPDATE + 3, 4, id="in the middle of an update"),
        pytest.param(AUDIT + 7 * UPDATE + 1, 7, id="final audit"),
        pytest.param(2 * AUDIT + 7 * UPDATE + 1, 7, id="evaluation"),
    ],
)
def test_a_run_killed_in_an_episode_ends_as_if_it_had_not_been(
    run: RunConfig,
    model: Path,
    fuse: Path,
    tmp_path: Path,
    uninterrupted: dict[str, bytes],
    capfd: pytest.CaptureFixture[str],
    episode: int,
    first: int,
) -> None:
    fuse.write_text(str(episode))
    assert killed(training, run, model, tmp_path / "run")
    assert finished(run, model, tmp_path / "run") == uninterrupted
    whole = json.loads((tmp_path / "run" / "timings.jsonl").read_text().splitlines()[-1])
    assert whole["first_update"] == first
    assert (f"resumes after update {first} of 7" in capfd.readouterr().err) == (first > 0)


@pytest.mark.slow
def test_a_run_killed_at_any_call_that_changes_the_disk_ends_as_if_it_had_not_been(
    model: Path, fuse: Path, tmp_path: Path
) -> None:
    """From the third state on, the first for which an older one is removed, up to the removal of all."""
    run = parse_study(document(fuse, updates=3, checkpoint_every=1), "test").runs()[0]
    with disk_calls() as calls:
        whole = finished(run, model, tmp_path / "whole")
    for last in range(len(calls) // 2, len(calls)):
        path = tmp_path / f"killed-{last}"
        assert killed(training, run, model, path, last)
        if RunDirectory(path).status() == "complete":  # nothing was left to do but to remove the states
            RunDirectory(path).forget_state()
            assert contents(path) == whole
        else:
            assert finished(run, model, path) == whole, f"killed before call {last}, {calls[last]}"


def test_a_run_may_be_killed_again_and_again(
    run: RunConfig, model: Path, fuse: Path, tmp_path: Path, uninterrupted: dict[str, bytes]
) -> None:
    lives = 0
    while fuse.write_text(str(3 * UPDATE)) and killed(training, run, model, tmp_path / "run"):
        lives += 1
    fuse.unlink(missing_ok=True)
    assert lives > 1 and contents(tmp_path / "run") == uninterrupted


def test_what_an_intervention_keeps_is_restored(
    run: RunConfig, model: Path, stopped: Path, uninterrupted: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    forgetful = stopped.with_name("forgetful")
    shutil.copytree(stopped, forgetful)
    assert finished(run, model, stopped) == uninterrupted
    assert json.loads(uninterrupted["result.json"])["interventions"] == [{"drawn": 2 + 7 * 2}]
    monkeypatch.setattr(Wandering, "load_state_dict", lambda *_: None)
    assert finished(run, model, forgetful) != uninterrupted, "the test would not notice"


def test_a_monitor_that_failed_before_the_kill_stays_off(model: Path, fuse: Path, tmp_path: Path) -> None:
    config = document(fuse, updates=5)
    config["eval"]["monitors"] = ["monitor_fakes:TeaLeaves", {"use": "monitor_fakes:Breaks", "version": 1}]
    run = parse_study(config, "test").runs()[0]
    whole = finished(run, model, tmp_path / "whole")
    rows = [json.loads(line) for line in whole["metrics.jsonl"].splitlines()]
    assert ["monitor/breaks/harm/score" in row for row in rows] == [True, False, False, False, False]
    assert all("monitor/tea_leaves/harm/score" in row for row in rows)
    fuse.write_text(str(AUDIT + 3 * UPDATE + 2))
    assert killed(training, run, model, tmp_path / "run")
    assert finished(run, model, tmp_path / "run") == whole


@pytest.mark.parametrize(
    ("learner", "interventions"),
    [
        pytest.param(
            {"algorithm": "ppo", "advantage_level": "turn", "epochs": 2, "critic": {"warmup": 3}}, [], id="critic"
        ),
        pytest.param({"kl": 0.1, "minibatches": 2, "weight_decay": 0.1}, [], id="reference"),
        pytest.param({"lora": {"rank": 2}}, ["GradientRouting"], id="adapters"),
        pytest.param(
            {},
            [
                {"use": "PersonaSubspace", "random": True, "basis_rank": 2, "alarm": 1e-4, "on_alarm": "rewind"},
                {"use": "ScoreRouting", "random": True, "clean_below": -0.1, "hack_above": 0.1},
            ],
            id="alarms and scores",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_whatever_is_trained_goes_on_where_it_was(
    model: Path, fuse: Path, tmp_path: Path, learner: dict[str, Any], interventions: list[Any]
) -> None:
    arms = {"one": {"role": "reference", "interventions": interventions}}
    config = document(fuse, updates=4) | {"learner": learner, "arms": arms}
    run = parse_study(config, "test").runs()[0]
    whole = finished(run, model, tmp_path / "whole")
    fuse.write_text(str(AUDIT + 2 * UPDATE + 2))
    assert killed(training, run, model, tmp_path / "run")
    assert finished(run, model, tmp_path / "run") == whole


def damage(state: Path) -> None:
    data = bytearray((state / "tensors.safetensors").read_bytes())
    data[-1] ^= 1
    (state / "tensors.safetensors").write_bytes(data)


def test_a_damaged_state_is_told_and_the_one_before_is_used(
    run: RunConfig, model: Path, stopped: Path, uninterrupted: dict[str, bytes], capfd: pytest.CaptureFixture[str]
) -> None:
    damage(stopped / "state" / "update-000004")
    assert finished(run, model, stopped) == uninterrupted
    told = capfd.readouterr().err
    assert "update-000004 cannot be used: the checksum of its tensors.safetensors does not match" in told
    assert "resumes after update 2 of 7" in told


def test_without_an_intact_state_a_run_restarts_from_the_beginning_and_says_so(
    run: RunConfig, model: Path, stopped: Path, uninterrupted: dict[str, bytes], capfd: pytest.CaptureFixture[str]
) -> None:
    damage(stopped / "state" / "update-000004")
    (stopped / "state" / "update-000002" / "state.json").unlink()
    assert finished(run, model, stopped) == uninterrupted
    told = capfd.readouterr().err
    assert "update-000002 cannot be used: it has no state.json" in told
    assert "has no usable state: it restarts from the beginning" in told


@pytest.mark.parametrize("lost", ["metrics.jsonl", "episodes/train-000003.parquet"])
def test_a_state_is_not_used_where_what_was_written_before_it_is_lost(
    run: RunConfig,
    model: Path,
    stopped: Path,
    uninterrupted: dict[str, bytes],
    capfd: pytest.CaptureFixture[str],
    lost: str,
) -> None:
    path = stopped / lost
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:3])[:-1])
    assert finished(run, model, stopped) == uninterrupted
    told = capfd.readouterr().err
    assert f"the state after update 4 cannot be used: {lost}" in told and "resumes after update 2 of 7" in told


def test_a_state_of_another_config_is_discarded_with_the_difference(
    run: RunConfig, model: Path, fuse: Path, stopped: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    other = parse_study(document(fuse) | {"learner": {"lr": 0.002}}, "test").runs()[0]
    fresh = finished(other, model, tmp_path / "fresh")
    assert finished(other, model, stopped) == fresh
    told = capfd.readouterr().err
    assert "has no usable state (changed since: learner.lr: None -> 0.002): it restarts from the beginning" in told


def test_a_state_that_the_run_cannot_take_stops_it_and_is_kept(
    run: RunConfig, model: Path, stopped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Wandering, "load_state_dict", lambda self, state: state["steps"])
    with pytest.raises(RunDirectoryError, match=r"cannot load: .*KeyError: .*'steps.*delete it to restart"):
        execute(run, model, RunDirectory(stopped))
    assert (stopped / "state" / "latest").read_text() == "update-000004\n"


def test_without_checkpoints_a_killed_run_restarts_from_the_beginning(model: Path, fuse: Path, tmp_path: Path) -> None:
    run = parse_study(document(fuse, checkpoint_every=0, updates=2), "test").runs()[0]
    whole = finished(run, model, tmp_path / "whole")
    fuse.write_text(str(AUDIT + UPDATE + 1))
    assert killed(training, run, model, tmp_path / "run") and not (tmp_path / "run" / "state").exists()
    assert finished(run, model, tmp_path / "run") == whole


# Studies --------------------------------------------------------------------------------------------------------------


class Lines(Display):
    """A display that keeps what it says."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []

    def note(self, text: str, *, warning: bool = False) -> None:
        self.said.append(text)


@pytest.mark.slow
def test_a_study_resumes_a_run_whose_worker_died(
    run: RunConfig, model: Path, fuse: Path, tmp_path: Path, uninterrupted: dict[str, bytes]
) -> None:
    config = parse_study(document(fuse) | {"model": str(model), "output": str(tmp_path)}, "test")
    fuse.write_text(str(AUDIT + 5 * UPDATE + 2))
    lines = Lines()
    result = run_study(config, cluster=RaySettings(cpus=1), display=lines)
    assert any("its worker process died" in s and "from the state after update 4" in s for s in lines.said)
    written = contents(result.directory / "runs" / "wandering" / "seed-0")
    assert written["metrics.jsonl"] == uninterrupted["metrics.jsonl"]
    assert "resumes after update 4 of 7" in (result.directory / "logs" / "wandering" / "seed-0.log").read_text()


def _study(document: dict[str, Any]) -> None:
    run_study(parse_study(document, "test"))


def test_a_study_says_what_becomes_of_half_written_runs(
    run: RunConfig, model: Path, fuse: Path, tmp_path: Path, uninterrupted: dict[str, bytes]
) -> None:
    wanted = document(fuse) | {"model": str(model), "output": str(tmp_path)}
    fuse.write_text(str(AUDIT + 5 * UPDATE + 2))
    assert killed(_study, wanted)
    lines = Lines()
    result = run_study(parse_study(wanted, "test"), display=lines)
    assert "1 half-written run resumes from the last saved state" in lines.said
    path = result.directory / "runs" / "wandering" / "seed-0"
    assert contents(path)["metrics.jsonl"] == uninterrupted["metrics.jsonl"]
    (path / "state").mkdir()  # as if it had been killed just before the end
    assert run_study(parse_study(wanted, "test")).kept and not (path / "state").exists()
