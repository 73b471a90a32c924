"""The device of a run's own process: what Ray has reserved for it, or what there is where Ray plays no part."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from launch_fakes import study

from launch.config.study import RunConfig
from launch.distributed.local import RaySettings
from launch.distributed.needs import PlacementError
from launch.distributed.own_gpu import index_of
from launch.errors import ConfigError
from launch.preflight import check_machine
from launch.run.device import local_device, own_device


def run(tmp_path: Path, device: str, **rollout: Any) -> RunConfig:
    config = study(tmp_path, {"arm": ""})
    train = config.train.model_copy(update={"device": device})
    return config.model_copy(update={"train": train, "rollout": config.rollout.model_copy(update=rollout)}).runs()[0]


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two, as far as torch is asked."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)


def assigned(monkeypatch: pytest.MonkeyPatch, gpus: list[int], mode: int = 1) -> None:
    """Be a process of Ray: a worker, or a driver (mode 0)."""
    context = SimpleNamespace(worker=SimpleNamespace(mode=mode))
    ray = SimpleNamespace(
        is_initialized=lambda: True, get_runtime_context=lambda: context, WORKER_MODE=1, get_gpu_ids=lambda: gpus
    )
    monkeypatch.setitem(__import__("sys").modules, "ray", ray)


def test_without_ray_a_run_takes_what_there_is(tmp_path: Path, gpus: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(__import__("sys").modules, "ray", raising=False)
    for wanted, found in {"auto": "cuda", "cpu": "cpu", "cuda:1": "cuda:1"}.items():
        with own_device(run(tmp_path, wanted)) as device:
            assert device == found
    with pytest.raises(ConfigError, match=r"train\.device is cuda:2, and torch finds 2 GPUs here: set it to auto or"):
        local_device("cuda:2")


@pytest.mark.parametrize("wrong", ["abacus", "cuda:x", "cuda:-1", "mps", "meta", "cuda 1", ""])
def test_what_is_no_device_is_refused_before_torch_is_asked(wrong: str) -> None:
    with pytest.raises(ConfigError, match=r"--device is .*, which is no device: use auto, cpu, cuda or cuda:1"):
        local_device(wrong, "--device")


@pytest.mark.parametrize(("ids", "wanted", "found"), [([], "auto", "cpu"), ([1], "auto", "cuda"), ([1], "cpu", "cpu")])
def test_a_task_of_ray_computes_on_what_was_reserved_for_it(
    tmp_path: Path, gpus: None, monkeypatch: pytest.MonkeyPatch, ids: list[int], wanted: str, found: str
) -> None:
    """Ray shows a task without a GPU all of them: looking for one found the first, whoever had it."""
    assigned(monkeypatch, ids)
    with own_device(run(tmp_path, wanted)) as device:
        assert device == found


def test_a_task_that_wants_a_gpu_and_has_none_says_so(
    tmp_path: Path, gpus: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    assigned(monkeypatch, [])
    with pytest.raises(ConfigError, match="Ray has reserved no GPU"), own_device(run(tmp_path, "cuda")):
        pass


def test_numbers_of_gpus_count_what_the_process_may_see(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert index_of("3") == 3
    monkeypatch.setitem(os.environ, "CUDA_VISIBLE_DEVICES", "2,3")
    assert index_of("3") == 1


def test_a_gpu_that_is_not_there_is_refused_before_anything_starts(tmp_path: Path) -> None:
    config = study(tmp_path, {"arm": ""})
    wanting = config.model_copy(update={"train": config.train.model_copy(update={"device": "cuda"})})
    with pytest.raises(ConfigError, match="torch finds no GPU here"):
        check_machine(wanting, None)
    told = r"no room for arm/seed-0: 1 GPU is needed \(1 for the run itself\), and the cluster has 0\. Set train"
    with pytest.raises(PlacementError, match=told):
        check_machine(wanting, RaySettings(cpus=2))
    numbered = config.model_copy(update={"train": config.train.model_copy(update={"device": "cuda:1"})})
    with pytest.raises(ConfigError, match="Ray chooses the GPUs of its processes: set it to cuda"):
        check_machine(numbered, RaySettings(cpus=2))
