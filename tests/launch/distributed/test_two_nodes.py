"""Two nodes on one machine, a vLLM worker on each: one node is killed in mid-run, and the run ends as it should."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.cluster_utils import Cluster
from waiting import wait_until

from launch.config.loading import parse_study
from launch.config.study import RunConfig
from launch.run.execute import execute
from launch.storage.rundir import RunDirectory

pytestmark = pytest.mark.slow

STUDY = {
    "name": "nodes",
    "seeds": 1,
    "train": {
        "worlds": {"clerk": {"size": 3}},
        "updates": 6,
        "groups": 4,
        "group_size": 4,
        "max_tokens": 12,
        "checkpoint_every": 0,
    },
    "learner": {"lr": 1e-3},
    "eval": {"worlds": {"clerk": {"size": 3}}, "episodes": 2, "access_episodes": 0},
    "rollout": {"engine": "vllm", "workers": 2, "stage_timeout": 400, "vllm": {"kv_cache_gib": 0.1, "max_num_seqs": 8}},
    "arms": {"unshaped": {"role": "reference"}},
}
NODE = {"num_cpus": 1, "object_store_memory": 80 * 2**20}


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """A head without cores and two nodes of one core: two workers cannot but be on different nodes."""
    made = Cluster(initialize_head=True, head_node_args={**NODE, "num_cpus": 0, "include_dashboard": False})
    made.add_node(**NODE)
    made.add_node(**NODE)
    made.wait_for_nodes()
    ray.init(address=made.address, log_to_driver=False)
    yield made
    ray.shutdown()
    made.shutdown()


@pytest.fixture(scope="module")
def model(babbling: Callable[..., Path]) -> Path:
    """It has learned a little: enough to play whole episodes."""
    return babbling(hidden=64, layers=2, vocabulary=500, context=1024, episodes=200, steps=60)


def config() -> RunConfig:
    return parse_study(STUDY, "test").runs()[0]


def nodes_of_workers() -> set[str]:
    """Where the run's room is."""
    rooms = [room for room in ray.util.placement_group_table().values() if room["state"] != "REMOVED"]
    return {node for room in rooms for node in room["bundles_to_node_id"].values() if node}


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]


def test_a_run_outlives_one_of_its_nodes(
    cluster: Cluster, model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    seen: list[set[str]] = []
    timers: list[threading.Timer] = []

    def lose_a_node() -> None:
        """In the middle of an update, with all its processes."""
        victim = next(node for node in cluster.list_all_nodes() if node.node_id in seen[0])
        cluster.remove_node(victim, allow_graceful=False)

    def look(update: int, row: dict[str, Any]) -> None:
        seen.append(nodes_of_workers())
        if update == 1:
            timers.append(threading.Timer(0.2, lose_a_node))
            timers[0].start()
        if update == 3:
            cluster.add_node(**NODE)
            # Ray takes a while to miss a node
            wait_until(lambda: len(nodes_of_workers() - seen[0]) > 0 and len(nodes_of_workers()) == 2, 120, every=0.5)

    result = execute(config(), model, RunDirectory(tmp_path / "run"), look)
    told = capfd.readouterr().err
    assert len(seen[0]) == 2, "the workers were on one node"
    assert len(seen[-1]) == 2 and seen[-1] != seen[0], "the lost worker has no place on the new node"
    assert "died; its groups are played again" in told
    found = rows(tmp_path / "run")
    attrition = result["attrition"]
    assert attrition["trained"] == attrition["episodes"] == 6 * 16
    assert [row["trained"] for row in found] == [16] * 6
    assert max(row["mismatch_kl"] for row in found) < 1e-5, "what was sampled from is not what was learned"
