"""GPUs are reserved: who asks for what, what fits where, and what is said if nothing does. Without Ray."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from launch.config.study import RunConfig, StudyConfig
from launch.distributed.needs import PlacementError, at_once, bundles, check_room, needs, shortage, wants_gpu

CPU = {"CPU": 8.0}
GPU = {"CPU": 8.0, "GPU": 2.0}


def run(rollout: Any = None, **train: Any) -> RunConfig:
    study = {
        "name": "gpus",
        "seeds": 1,
        "train": {"worlds": {"clerk": {}}, "updates": 1, "groups": 1, "group_size": 2, **train},
        "rollout": rollout or {},
        "eval": {"worlds": {"clerk": {}}},
        "arms": {"one": {"role": "reference"}},
    }
    return StudyConfig.model_validate(study).runs()[0]


@pytest.mark.parametrize(
    ("device", "nodes", "wanted"),
    [
        ("auto", [CPU], {"CPU": 1.0}),
        ("auto", [CPU, GPU], {"CPU": 1.0, "GPU": 1.0}),
        ("cpu", [CPU, GPU], {"CPU": 1.0}),
        ("cuda", [CPU], {"CPU": 1.0, "GPU": 1.0}),
    ],
)
def test_a_run_reserves_the_gpu_that_it_computes_on(device: str, nodes: Any, wanted: dict[str, float]) -> None:
    one = run(device=device)
    assert bundles(one, nodes) == [wanted] and wants_gpu(one, nodes) == ("GPU" in wanted)
    assert bool(shortage(needs(one, nodes), nodes)) == (device == "cuda" and nodes == [CPU])


def test_as_many_runs_go_at_once_as_have_a_gpu_each() -> None:
    """All runs of a study took the first one."""
    assert at_once([run()], [CPU]) == 8
    assert at_once([run()], [CPU, GPU]) == 2
    assert at_once([run(device="cpu")], [CPU, GPU]) == 16
    assert at_once([run(gpus=0.5)], [GPU]) == 4
    assert at_once([run({"workers": 1, "gpus": 1})], [GPU]) == 1


@pytest.mark.parametrize(
    ("one", "told"),
    [
        (
            run({"workers": 2, "gpus": 1}),
            r"no room for one/seed-0: 3 GPUs are needed \(1 for the run itself, 2 x 1 for rollout workers\), and the "
            r"cluster has 2\. Set train\.device to cpu, or train\.gpus below 1 to share one, or rollout\.gpus or",
        ),
        (
            run(learner_group={"strategy": "fsdp", "ranks": 2, "gpus": 1}),
            r"3 GPUs are needed \(1 for the run itself, 2 x 1 for learner ranks\), and the cluster has 2",
        ),
        (
            run({"workers": 2, "gpus": 0.75}, gpus=0.5),
            r"one process \(the run itself\) needs 1 CPUs and 0\.5 GPUs, which no node has left",
        ),
    ],
)
def test_no_gpu_left_for_the_controller_is_refused_with_what_to_set(one: RunConfig, told: str) -> None:
    with pytest.raises(PlacementError, match=told):
        check_room([one], [GPU])


def test_shares_of_one_gpu_fit_and_ranks_that_are_spread_count() -> None:
    check_room([run({"workers": 2, "gpus": 0.75}, device="cpu")], [GPU])
    check_room([run({"workers": 9, "gpus": 0.1, "cpus": 0}, gpus=0.1)], [{"CPU": 2, "GPU": 1}])
    spread = {"strategy": "data", "ranks": 3, "gpus": 1, "nodes": "spread"}
    assert bundles(run(device="cpu", learner_group=spread), [GPU]) == [{"CPU": 1.0}]
    with pytest.raises(PlacementError, match=r"3 GPUs are needed \(3 x 1 for learner ranks\)"):
        check_room([run(device="cpu", learner_group=spread)], [GPU])


def test_a_share_of_nothing_is_no_setting() -> None:
    with pytest.raises(ValidationError, match=r"train\.gpus"):
        run(gpus=0)
