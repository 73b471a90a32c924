"""GPUs that Ray only counts: tasks of a study, and a run in the driver, get one each, and no two the same."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
from launch_fakes import study

from launch.config.study import RunConfig
from launch.distributed.needs import PlacementError
from launch.distributed.own_gpu import held_gpu
from launch.distributed.placement import release, reserve
from launch.distributed.ray_folder import check_ray_folder
from launch.run.device import _assigned


@pytest.fixture
def two_gpus() -> Iterator[None]:
    check_ray_folder()
    quiet = {"log_to_driver": False, "logging_level": "ERROR", "include_dashboard": False}
    ray.init(address="local", num_cpus=4, num_gpus=2, object_store_memory=80 * 1024**2, **quiet)
    try:
        yield
    finally:
        ray.shutdown()


def run(tmp_path: Path, device: str, patience: float = 60.0) -> RunConfig:
    config = study(tmp_path, {"arm": ""})
    config = config.model_copy(update={"train": config.train.model_copy(update={"device": device})})
    return config.model_copy(update={"rollout": config.rollout.model_copy(update={"stage_timeout": patience})}).runs()[
        0
    ]


@ray.remote(num_cpus=1)
def seen() -> tuple[list[str] | None, str, float, float]:
    started = time.time()
    time.sleep(1.0)
    return _assigned(), os.environ.get("CUDA_VISIBLE_DEVICES", ""), started, time.time()


@pytest.mark.slow
def test_runs_get_a_gpu_each_and_wait_where_there_is_none_left(two_gpus: None, tmp_path: Path) -> None:
    def submitted(device: str) -> tuple[object, ray.ObjectRef]:
        group, options = reserve(run(tmp_path, device))
        return group, seen.options(**options).remote()

    with held_gpu(run(tmp_path, "cuda")) as own:
        groups, tasks = zip(*(submitted(d) for d in ("cuda", "auto", "cpu")), strict=True)
        first, second, none = ray.get(list(tasks), timeout=60)
        assert {tuple(first[0]), tuple(second[0])} == {("1",) if own == 0 else ("0",)}, "not the driver's"
        assert first[1] == first[0][0] and none[:2] == ([], os.environ.get("CUDA_VISIBLE_DEVICES", ""))
        assert first[3] <= second[2] or second[3] <= first[2], "one after the other: two GPUs, one of them held"
        with held_gpu(run(tmp_path, "cuda")) as other:
            assert other != own
            with pytest.raises(PlacementError, match="no GPU of this machine has 1 left for the run itself"):  # noqa: SIM117
                with held_gpu(run(tmp_path, "cuda", 0.5)):
                    pass
    for group in groups:
        release(group)
