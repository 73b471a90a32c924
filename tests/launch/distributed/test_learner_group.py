"""A learner group does what one learner does, and a run outlives its ranks: real Ray actors, real gloo."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
import torch
from safetensors.torch import load_file

from launch.config.loading import parse_study
from launch.config.study import RunConfig
from launch.config.train import LearnerGroupConfig
from launch.distributed.learner_group import LearnerGroup
from launch.distributed.local import RaySettings, running_ray
from launch.distributed.needs import PlacementError
from launch.errors import ConfigError, UserError
from launch.run.build import Parts, build
from launch.run.execute import execute
from launch.run.recovery import RankLost, surviving
from launch.storage.rundir import RunDirectory
from launch.study import _parallel_runs
from launch.train import update
from shaping.learning.learner import LearnerError

pytestmark = pytest.mark.slow
PPO = {"algorithm": "ppo", "advantage_level": "turn", "epochs": 2, "kl": 0.1}


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    """Four CPUs by Ray's count, whatever the machine has."""
    with running_ray(RaySettings(cpus=4)):
        yield


@pytest.fixture(scope="module")
def fuse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuse") / "fuse"


@pytest.fixture(scope="module")
def routed(fuse: Path) -> list[Any]:
    """Two adapters, one of them in quarantine, a fuse in the auxiliary loss, and edits that change with the updates."""
    fragile = {"use": "group_worlds:Fragile", "fuse": str(fuse)}
    return [{"use": "GradientRouting", "rank": 2, "false_positives": 0.3}, fragile, "adapting_plugins:Adapting"]


def config(strategy: str, interventions: list[Any], learner: dict[str, Any] | None = None, **train: Any) -> RunConfig:
    worlds: dict[str, Any] = {"controller_worlds:Vowels": {}}
    group = {"strategy": strategy, "ranks": 1 if strategy == "none" else 2, **train.pop("learner_group", {})}
    small = {"worlds": worlds, "updates": 2, "groups": 2, "group_size": 4, "max_tokens": 8}
    document = {
        "name": "small",
        "seeds": 1,
        "train": {**small, "learner_group": group, **train},
        "learner": {"token_budget": 256, **(learner or {})},
        "eval": {"worlds": worlds, "episodes": 1, "access_episodes": 0, "watch": ["always"], "placebo": ["on"]},
        "arms": {"one": {"role": "reference", "interventions": interventions}},
    }
    return parse_study(document, "test").runs()[0]


def finished(run: RunConfig, model: Path, path: Path, on_update: Callable[..., None] = lambda *_: None) -> RunDirectory:
    execute(run, model, RunDirectory(path), on_update)
    assert RunDirectory(path).status() == "complete"
    return RunDirectory(path)


def contents(directory: RunDirectory) -> dict[str, bytes]:
    """Every file of a run but its wall times; of run.json the config is the same by construction."""
    left_out = ("run.json", "timings.jsonl", ".lock")
    files = {p.relative_to(directory.path).as_posix(): p for p in directory.path.rglob("*") if p.is_file()}
    return {name: path.read_bytes() for name, path in files.items() if name not in left_out}


def routed_run(strategy: str, routed: list[Any]) -> RunConfig:
    return config(strategy, routed, updates=4, checkpoint_every=2, save_episodes_every=1)


@pytest.fixture(scope="module")
def undisturbed(routed: list[Any], model: Path, tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    return finished(routed_run("data", routed), model, tmp_path_factory.mktemp("undisturbed") / "run")


def assert_same(group: RunDirectory, alone: RunDirectory, model: Path) -> None:
    """Metrics of every update, and the deployed weights, which have moved."""
    for ours, theirs in zip(group.rows(), alone.rows(), strict=True):
        assert ours.pop("phase") == theirs.pop("phase") == "train"
        assert ours == pytest.approx(theirs, rel=1e-4, abs=1e-5, nan_ok=True)
    start, ours, theirs = (stored(folder) for folder in (model, group.checkpoint, alone.checkpoint))
    assert ours.keys() == theirs.keys()
    assert max(float((ours[name] - theirs[name]).abs().max()) for name in ours) <= 1e-5
    moved = [
        float((ours[name] - start.get(name, torch.zeros(()))).abs().max()) for name in ours if "lora_A" not in name
    ]
    assert max(moved) > 1e-4, "nothing was learned"


def stored(folder: Path) -> dict[str, torch.Tensor]:
    """All weights of a checkpoint: of a whole model, or of its adapters, whose B matrices start at zero."""
    files = sorted(folder.rglob("*.safetensors"))
    return {name: tensor for file in files for name, tensor in load_file(file).items()}


def test_two_data_parallel_ranks_give_the_run_of_one_with_adapters_and_quarantine(
    routed: list[Any], undisturbed: RunDirectory, model: Path, tmp_path: Path
) -> None:
    assert_same(undisturbed, finished(routed_run("none", routed), model, tmp_path / "alone"), model)
    assert {room["state"] for room in ray.util.placement_group_table().values()} == {"REMOVED"}


def test_two_sharded_ranks_give_the_run_of_one_with_a_critic_and_a_reference(model: Path, tmp_path: Path) -> None:
    alone, group = (
        finished(config(strategy, [], PPO, checkpoint_every=0), model, tmp_path / strategy)
        for strategy in ("none", "fsdp")
    )
    assert_same(group, alone, model)


def test_a_run_whose_rank_is_killed_in_mid_update_ends_with_the_undisturbed_numbers(
    routed: list[Any],
    undisturbed: RunDirectory,
    fuse: Path,
    model: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    seen: list[int] = []

    def light(update: int, row: dict[str, Any]) -> None:
        seen.append(update)
        if seen == [0, 1, 2]:
            fuse.write_text("die")

    disturbed = finished(routed_run("data", routed), model, tmp_path / "run", light)
    assert seen == [0, 1, 2, 2, 3], "the update after the state is done again"
    assert contents(disturbed) == contents(undisturbed)
    told = capfd.readouterr().err
    assert "rank 1 of 2 (node" in told and "was lost in update: its process or its node died" in told
    assert "the group restarts, from the state after update 2" in told


@contextlib.contextmanager
def parts(routed: list[Any], model: Path, ranks: int) -> Iterator[Parts]:
    with contextlib.closing(build(config("data", routed, learner_group={"ranks": ranks}), model)) as made:
        yield made


def test_an_error_in_a_rank_is_raised_with_its_name(
    routed: list[Any], fuse: Path, model: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    wanted = r"^rank 0 of 1 \(node .*\) failed in update: .*raised ArithmeticError: the probe has no direction$"
    with parts(routed, model, ranks=1) as alone:
        fuse.write_text("raise")
        with pytest.raises(LearnerError, match=wanted):
            update(alone.trainer, 0)
    assert "in auxiliary_loss" in capfd.readouterr().err, "the traceback is in the log"


def test_a_rank_that_hangs_is_named_and_stacks_are_told(
    routed: list[Any], fuse: Path, model: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with parts(routed, model, ranks=2) as both:
        update(both.trainer, 0)
        fuse.write_text("hang")
        patient = LearnerGroupConfig(strategy="data", ranks=2, timeout=4)
        monkeypatch.setattr(both.trainer.learner, "_config", patient)
        with pytest.raises(RankLost, match=r"^no answer in update within 4 s: rank 1 of 2 .*, on which rank 0 waits;"):
            update(both.trainer, 1)
    told = capfd.readouterr().err
    assert "in auxiliary_loss" in told and "torch/distributed/distributed_c10d.py" in told


def test_without_room_there_is_a_message_and_no_hang(
    model: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("launch.distributed.placement.PATIENCE", 0.5)
    run = config("data", [], learner_group={"ranks": 3, "cpus": 2, "gpus": 1, "placement_timeout": 1})
    wanted = r"3 ranks want 6 CPUs and 3 GPUs; the cluster has 4 CPUs on 1 node, of which [234] CPUs free.*Lower"
    with pytest.raises(PlacementError, match=wanted):
        build(run, model)
    assert "waits for room" in capfd.readouterr().err


def test_a_study_has_room_for_a_run_and_all_its_ranks() -> None:
    """The run's own process takes a CPU, too: of four, two runs with two ranks would each take half."""
    assert _parallel_runs([config("none", [])]) == 4
    assert _parallel_runs([config("none", []), config("data", [])]) == 1
    assert _parallel_runs([config("data", [], learner_group={"cpus": 0.5})]) == 2
    with pytest.raises(PlacementError, match=r"no room for one/seed-0: 5 CPUs are needed \(1 \+ 2 \+ 2\).* has 4"):
        _parallel_runs([config("data", [], learner_group={"cpus": 2})])


def test_restarts_in_a_row_end_with_an_error_and_progress_resets_the_count(tmp_path: Path) -> None:
    run = config("data", [], checkpoint_every=0, learner_group={"restarts": 1})
    directory = RunDirectory(tmp_path / "run")
    directory.create(run.model_dump(mode="json"), {})
    told: list[str] = []
    lives = iter([1, 2, 2, 2])

    def attempt() -> None:
        """Each finishes as many updates as `lives` says before the group is lost."""
        (directory.path / "metrics.jsonl").write_text("{}\n" * next(lives))
        raise RankLost("rank 0 died")

    with pytest.raises(UserError, match=r"lost 2 times in a row \(train.learner_group.restarts=1\).*rank 0 died"):
        surviving(attempt, directory, run, told.append)
    assert next(lives) == 2 and len(told) == 2
    assert told[0].endswith("the run from its start: train.checkpoint_every=0 saves no training states")


@pytest.mark.parametrize(
    ("learners", "wanted"),
    [
        ({"strategy": "none", "ranks": 2}, "set it to data or fsdp"),
        ({"strategy": "data", "ranks": 2, "gpus": 0.5}, "more than 0.5"),
    ],
)
def test_settings_that_cannot_work_are_refused(learners: dict[str, Any], wanted: str) -> None:
    with pytest.raises(ConfigError, match=wanted):
        config(learners.pop("strategy"), [], learner_group=learners)


def test_an_update_without_samples_asks_no_rank() -> None:
    assert LearnerGroup.update(object.__new__(LearnerGroup), []) == {}
    assert json.dumps(LearnerGroupConfig().model_dump())
