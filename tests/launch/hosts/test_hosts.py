"""A study over several hosts: each has its own address, file system for Ray, and cache, and nothing else is shared."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import yaml
from hosts import Host, hosts, output_of, why_no_hosts
from waiting import patience, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(why_no_hosts()), reason=why_no_hosts() or "possible")]

PORT = 6379
WORLDS = {"clerk": {"size": 3}}
STUDY = {
    "name": "hosts",
    "seeds": 1,
    "train": {
        "worlds": WORLDS,
        "updates": 4,
        "groups": 4,
        "group_size": 4,
        "max_tokens": 12,
        "checkpoint_every": 1,
        "learner_group": {"strategy": "data", "ranks": 2, "nodes": "spread", "cpus": 0.5, "timeout": 120},
    },
    "learner": {"lr": 1e-3},
    "eval": {"worlds": WORLDS, "episodes": 2, "access_episodes": 0},
    "rollout": {"workers": 2, "cpus": 0.5, "stage_timeout": 200},
    "arms": {"unshaped": {"role": "reference"}},
}


VLLM = {
    **STUDY["rollout"],  # type: ignore[dict-item]
    "engine": "vllm",
    "transfer": "broadcast",
    "stage_timeout": 400,
    "vllm": {"kv_cache_gib": 0.1, "max_num_seqs": 8},
}


@pytest.fixture(scope="module")
def model(babbling: Callable[..., Path]) -> Path:
    """It has learned a little: enough to play whole episodes."""
    return babbling(hidden=64, layers=2, vocabulary=500, context=1024, episodes=200, steps=60)


@pytest.fixture
def network(tmp_path: Path) -> Iterator[Sequence[Host]]:
    with hosts(3, tmp_path) as made:
        yield made


class Cluster:
    """Ray on some hosts, behind a token."""

    def __init__(self, head: Host) -> None:
        self.head = head
        self.variables = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
        self.address = f"{head.address}:{PORT}"
        self._start(head, "--head", f"--port={PORT}", "--include-dashboard=false")

    def join(self, host: Host, **variables: str) -> None:
        self._start(host, f"--address={self.address}", **variables)

    def _start(self, host: Host, *options: str, **variables: str) -> None:
        ray = host.shaping()[0].replace("shaping", "ray")
        node = (f"--node-ip-address={host.address}", "--num-cpus=2", "--object-store-memory=100000000")
        status, said = host.run(ray, "start", *node, *options, timeout=120, variables=self.variables | variables)
        assert status == 0, said

    def study(self, model: Path, folder: Path, **changes: object) -> tuple[str, ...]:
        """The command line that runs the study on it, with files that are on the head alone."""
        document = {**STUDY, "model": "/tmp/model", "output": "/tmp/runs", **changes}
        (self.head.folder / "study.yaml").write_text(yaml.safe_dump(document))
        for file in model.iterdir():
            (self.head.folder / "model").mkdir(exist_ok=True)
            (self.head.folder / "model" / file.name).write_bytes(file.read_bytes())
        return self.head.shaping("study", "/tmp/study.yaml", "--address", self.address)


def run_of(head: Host) -> Path:
    return head.folder / "runs" / "hosts" / "runs" / "unshaped" / "seed-0"


def updates(head: Host) -> int:
    path = run_of(head) / "metrics.jsonl"
    return len(path.read_text().splitlines()) if path.is_file() else 0


def test_a_study_runs_over_two_hosts_that_share_no_disk(network: Sequence[Host], model: Path, tmp_path: Path) -> None:
    """Workers and ranks on both; the model travels, and weights go by broadcast from host to host."""
    first, second, _ = network
    cluster = Cluster(first)
    cluster.join(second)
    command = cluster.study(model, tmp_path, rollout=VLLM)
    status, said = first.run(*command, timeout=patience(500), variables=cluster.variables)
    assert status == 0, said
    result = json.loads((run_of(first) / "result.json").read_text())
    assert result["attrition"]["trained"] == result["attrition"]["episodes"] == 4 * 16
    rows = [json.loads(line) for line in (run_of(first) / "metrics.jsonl").read_text().splitlines()]
    assert max(abs(row["mismatch_kl"]) for row in rows) < 1e-5, "what was sampled from is not what was learned"
    assert "read them from the object store" not in said, "the weights did not go by broadcast"
    assert (second.folder / "ray").is_dir() and not (second.folder / "runs").exists()


def test_without_the_token_nothing_gets_in(network: Sequence[Host], model: Path, tmp_path: Path) -> None:
    first, second, _ = network
    cluster = Cluster(first)
    command = cluster.study(model, tmp_path)
    for file in ("study.yaml", "model"):
        (first.folder / file).rename(second.folder / file)
    wrong = {**cluster.variables, "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    status, said = second.run(*command, timeout=patience(120), variables=wrong)
    assert status != 0
    assert f"no Ray cluster answers at '{cluster.address}'" in said and "RAY_AUTH_MODE=token" in said
    assert "Traceback" not in said and not (second.folder / "runs").exists()


def test_a_host_that_vanishes_is_told_and_the_study_goes_on_where_it_was(
    network: Sequence[Host], model: Path, tmp_path: Path
) -> None:
    first, second, third = network
    cluster = Cluster(first)
    cluster.join(second)
    process = first.start(
        *cluster.study(model, tmp_path, train={**STUDY["train"], "updates": 12}),  # type: ignore[dict-item]
        variables=cluster.variables,
    )
    wait_until(lambda: updates(first) >= 2 or process.poll() is not None, patience(300), every=0.5)
    assert process.poll() is None, output_of(process)
    second.cut_off()
    time.sleep(1)
    second.end()
    reached = updates(first)
    # the ranks are spread: without a second host there is no room for them, until another one comes
    wait_until(lambda: "marked dead" in output_of(process) or process.poll() is not None, patience(120), every=1)
    assert process.poll() is None, output_of(process)
    cluster.join(third)
    status = process.wait(patience(400))
    said = output_of(process)
    assert status == 0, said
    assert updates(first) == 12 > reached
    result = json.loads((run_of(first) / "result.json").read_text())
    assert result["attrition"]["trained"] == 12 * 16


def test_a_host_with_another_package_is_named_before_anything_is_made(
    network: Sequence[Host], model: Path, tmp_path: Path
) -> None:
    first, second, _ = network
    other = second.folder / "packages" / "torch-0.1.dist-info"
    other.mkdir(parents=True)
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: torch\nVersion: 0.1\n")
    cluster = Cluster(first)
    cluster.join(second, PYTHONPATH="/tmp/packages")
    status, said = first.run(*cluster.study(model, tmp_path), timeout=patience(200), variables=cluster.variables)
    assert status != 0
    assert "torch" in said and "0.1" in said and second.address in said, said
    assert not run_of(first).exists() and "Traceback" not in said


def test_an_address_that_this_host_cannot_reach_is_told_with_what_to_check(
    network: Sequence[Host], model: Path, tmp_path: Path
) -> None:
    """The head has an address that is known on its own side alone."""
    first = network[0]
    cluster = Cluster(first)
    command = [*cluster.study(model, tmp_path)]
    command[-1] = f"10.99.0.1:{PORT}"
    status, said = first.run(*command, timeout=patience(120), variables=cluster.variables)
    assert status != 0
    assert f"10.99.0.1:{PORT}" in said and "Traceback" not in said, said
