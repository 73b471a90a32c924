"""The command line: what it prints, and that every mistake is one message and a non-zero exit."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from cli_with_fakes import build
from launch_fakes import START_MODEL, TRAINER, results, study
from synthetic_study import config, write_study

import launch.cli
import launch.study
from launch.doctor import Finding, examine, mismatch
from launch.report.build import build as real_build
from launch.storage.rundir import RunDirectory


class Outcome:
    """What a command left: exit code, stdout, stderr."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


@pytest.fixture
def shaping(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Any:
    """Call `shaping ARGUMENTS` in this process, with a fake trainer and report, and without Ray."""
    whole = launch.study.run_study

    def without_ray(config: Any, **given: Any) -> Any:
        return whole(config, **{**given, "cluster": None, "trainer": TRAINER, "start_model": START_MODEL})

    monkeypatch.setattr("launch.study.run_study", without_ray)
    monkeypatch.setattr("launch.report.build.build", build)
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> Outcome:
        monkeypatch.setattr("sys.argv", ["shaping", *arguments])
        with pytest.raises(SystemExit) as exit_:
            launch.cli.main()
        told = capsys.readouterr()
        return Outcome(int(exit_.value.code or 0), told.out, told.err)

    return call


@pytest.fixture
def file(tmp_path: Path) -> str:
    config = study(tmp_path / "runs", {"unshaped": "", "mask": {"interventions": ["ActionMask"]}}, seeds=2)
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(config.model_dump(mode="json")))
    return str(path)


def test_a_study_runs_and_its_report_is_shown(shaping: Any, file: str, tmp_path: Path) -> None:
    done = shaping("study", file, "seeds=1")
    assert done.code == 0, done.err
    assert "H1 inconclusive: constraints deceive" in done.out
    assert str(tmp_path / "runs" / "small" / "report" / "index.html") in done.out
    assert sorted(results(tmp_path / "runs" / "small")) == ["mask/seed-0", "unshaped/seed-0"]


def test_a_dry_run_prints_config_and_runs_and_writes_nothing(shaping: Any, file: str, tmp_path: Path) -> None:
    done = shaping("study", file, "train.updates=7", "--dry-run")
    assert done.code == 0, done.err
    assert yaml.safe_load(done.out)["train"]["updates"] == 7
    assert "#   mask/seed-1" in done.out
    assert not (tmp_path / "runs").exists()


def test_seeds_are_ranges_and_restrict_a_dry_run_and_a_study_alike(shaping: Any, file: str, tmp_path: Path) -> None:
    dry = shaping("study", file, "seeds=4", "--seeds", "1-2", "--dry-run")
    assert [line for line in dry.out.splitlines() if "/seed-" in line] == [
        f"#   {arm}/seed-{seed} from organism-{seed}" for seed in (1, 2) for arm in ("mask", "unshaped")
    ]
    assert shaping("study", file, "seeds=4", "--seeds", "3,0", "--only", "mask").code == 0
    assert sorted(results(tmp_path / "runs" / "small")) == ["mask/seed-0", "mask/seed-3"]
    assert "has no seed 4 (seeds: 0-3)" in shaping("study", file, "seeds=4", "--seeds", "3-4").err
    assert "'3-1' is no seed or range" in shaping("study", file, "--seeds", "3-1").err


def test_rows_are_written_and_joined_into_a_report(shaping: Any, tmp_path: Path) -> None:
    study = config(seeds=2, arms={"unshaped": {"role": "reference"}})
    for seed in (0, 1):
        write_study(tmp_path / f"part-{seed}", study, absent=[("unshaped", 1 - seed)], episodes=False, updates=2)
        done = shaping("rows", f"part-{seed}", "--out", f"rows-{seed}")
        assert done.code == 0, done.err
        assert re.fullmatch(rf"rows: 1 runs, [\d,]+ bytes at most, in rows-{seed}\n", done.out)
    done = shaping("report", "rows-0", "rows-1", "--out", "joined")
    assert done.code == 0, done.err
    assert "report: joined/index.html" in done.out and (tmp_path / "joined" / "index.html").is_file()


def test_only_restricts_the_arms(shaping: Any, file: str, tmp_path: Path) -> None:
    assert shaping("study", file, "--only", "mask").code == 0
    assert sorted(results(tmp_path / "runs" / "small")) == ["mask/seed-0", "mask/seed-1"]


def test_failed_runs_are_listed_and_the_report_is_still_written(shaping: Any, file: str, tmp_path: Path) -> None:
    done = shaping("study", file, "arms.mask.label=raises", "seeds=1")
    assert done.code == 1
    assert "1 runs failed" in done.err
    assert "mask/seed-0: ArithmeticError: the loss is not finite" in done.err
    assert str(Path("logs") / "mask" / "seed-0.log") in done.err
    assert "H1 inconclusive" in done.out


def test_train_makes_one_run_of_the_study(shaping: Any, file: str, tmp_path: Path) -> None:
    done = shaping("train", file, "--arm", "mask", "--seed", "1")
    assert done.code == 0, done.err
    assert list(results(tmp_path / "runs" / "small")) == ["mask/seed-1"]
    assert done.out.strip().endswith("runs/small/runs/mask/seed-1")


def test_train_asks_for_a_cell_where_axes_multiply_the_arm(shaping: Any, file: str, tmp_path: Path) -> None:
    axes = "axes={train.worlds.steward.inquiry: [0.1, 0.2]}"
    assert "mask+inquiry=0.1, mask+inquiry=0.2" in shaping("train", file, axes, "--arm", "mask").err
    assert shaping("train", file, axes, "--arm", "mask+inquiry=0.2").code == 0
    assert list(results(tmp_path / "runs" / "small")) == ["mask+inquiry=0.2/seed-0"]


def test_eval_replaces_the_evaluation_of_a_finished_run(
    shaping: Any, file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shaping("study", file, "seeds=1")
    run = RunDirectory(tmp_path / "runs" / "small" / "runs" / "mask" / "seed-0")

    def evaluate(config: Any, policy: Path, directory: RunDirectory, device: str) -> None:
        assert (config.arm, policy, device) == ("mask", directory.checkpoint, "auto")
        cell = {"world": "clerk", "watch": "never", "placebo": "off"}
        directory.evaluation([{"phase": "base", **cell, "reward": 0.5}, {**cell, "reward": 0.75}])

    monkeypatch.setattr("launch.run.evaluation.evaluate.evaluate", evaluate)
    told = shaping("eval", str(run.path)).out.splitlines()
    assert told[-2:] == [
        "phase base  world clerk  watch never  placebo off  reward 0.5",
        "world clerk  watch never  placebo off  reward 0.75",
    ]
    assert run.status() == "complete"


def test_list_names_everything_with_a_line_about_it(shaping: Any) -> None:
    out = shaping("list").out
    classes = ("steward", "nightwatch", "clerk", "ActionMask", "Inoculation", "RandomReward", "ClaimCheck", "Raises")
    for name in (*classes, "Arms", "hidden_gap", "deceiver", "permissive", "thesis"):
        (line,) = [line for line in out.splitlines() if line.split()[:1] == [name]]
        assert len(line.split()) > 3, f"{name} has no description"
    assert all(len(line) <= 120 for line in out.splitlines())


def test_one_kind_is_listed_alone_and_whole(shaping: Any) -> None:
    out = shaping("list", "metrics").out.splitlines()
    assert out[0] == "metrics" and not any(line.startswith("worlds") for line in out)
    at = next(number for number, line in enumerate(out) if line.split()[:1] == ["hidden_gap"])
    assert [line.split(":")[0].strip() for line in out[at + 1 : at + 4]] == ["label", "unit", "direction"]
    assert "constraints" not in shaping("list", "shapers").out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["study", "quikstart"], "did you mean 'quickstart'"),
        (["study", "FILE", "train.updats=3"], "train.updats: unknown key (did you mean 'updates'?)"),
        (["study", "FILE", "--only", "musk"], "did you mean 'mask'"),
        (["study", "FILE", "train.worlds.stewart={}"], "did you mean 'steward'"),
        (["train", "FILE", "--arm", "musk"], "did you mean 'mask'"),
        (["train", "FILE", "--arm", "mask", "--seed", "9"], "no seed 9"),
        (["eval", "nowhere"], "nowhere is not a run directory"),
        (["report", "nowhere"], "nowhere: there is no such directory"),
        (["rows", "nowhere"], "nowhere: there is no such directory"),
        (["list", "metric"], "there is nothing called 'metric' (did you mean 'metrics'?)"),
        (["check", "clark"], "unknown plug-in 'clark' (did you mean 'clerk'?)"),
    ],
)
def test_a_mistake_is_one_message_and_exit_code_1(
    shaping: Any, file: str, arguments: list[str], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("launch.report.build.build", real_build)
    done = shaping(*(file if argument == "FILE" else argument for argument in arguments))
    assert done.code == 1
    assert done.err.startswith("error: ")
    assert told in done.err
    assert "Traceback" not in done.err


def test_an_unexpected_error_is_short_and_debug_shows_the_rest(
    shaping: Any, file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise KeyError("a bug")

    monkeypatch.setattr("launch.config.loading.load_study", broken)
    done = shaping("study", file)
    assert done.code == 1
    assert done.err == "error: unexpected KeyError: 'a bug'\n`shaping --debug ...` shows where\n"
    debugged = shaping("--debug", "study", file)
    assert debugged.code == 1
    assert "Traceback" in debugged.err and "in broken" in debugged.err and "KeyError: 'a bug'" in debugged.err


def test_the_doctor_notices_packages_built_for_another_torch() -> None:
    assert "was built for torch 2.12.0" in mismatch("torchvision 0.27", ["numpy", "torch==2.12.0"], "2.13.0+cpu")
    assert mismatch("torchvision 0.28", ["numpy", "torch==2.13.0"], "2.13.0+cpu") == ""


def test_the_doctor_fails_where_something_is_missing(shaping: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    bad = Finding("error", "ray", "does not start", "read the log")
    monkeypatch.setattr("launch.doctor.examine", lambda full: iter([Finding("ok", "python", "3.11"), bad]))
    done = shaping("doctor")
    assert done.code == 1
    assert "FAIL  ray: does not start\n      read the log" in done.out


def test_the_doctor_finds_nothing_wrong_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("launch.doctor._ray", lambda: Finding("ok", "ray", ""))  # the study tests start it
    monkeypatch.setattr(
        "launch.doctor._vllm", lambda full: Finding("ok", "vllm", "")
    )  # the tests of its engine start it
    assert [finding for finding in examine() if finding.level == "error"] == []
    assert json.dumps([finding.what for finding in examine()])
