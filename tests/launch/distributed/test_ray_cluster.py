"""A running cluster: its nodes are compared with the driver, and studies are handed to it as jobs."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray_head import RayHead, ray_head

from launch.distributed.nodes import skew
from launch.distributed.submit import connect, environment_of, prepared
from launch.errors import ConfigError, UserError
from launch.storage.versions import versions


def test_builds_of_one_version_are_equal_and_other_versions_are_named() -> None:
    here = {"python": "3.11.9", "packages": {"torch": "2.13.0+cpu", "ray": "2.60.0"}, "source": "aaaabbbbcc"}
    assert skew(here, {**here, "python": "3.11.12", "packages": {"torch": "2.13.0+cu130", "ray": "2.60.0"}}) == []
    there = {"python": "3.12.1", "packages": {"torch": "2.12.0", "peft": "0.21.2"}, "source": "ddddeeeeff"}
    assert skew(here, there) == [
        "python is 3.12, the driver has 3.11",
        "peft is 0.21.2, the driver has not installed",
        "ray is not installed, the driver has 2.60.0",
        "torch is 2.12.0, the driver has 2.13.0",
        "our source code is ddddeeee, the driver has aaaabbbb",
    ]


@pytest.fixture(scope="module")
def head() -> Iterator[RayHead]:
    with ray_head() as found:
        yield found


DIFFERS = """
import sys
from launch.distributed.nodes import check_nodes
from launch.distributed.local import RaySettings, running_ray
from launch.storage.versions import versions
with running_ray(RaySettings(address=sys.argv[1])):
    check_nodes({**versions(), "packages": {**versions()["packages"], "peft": "0.20.0"}})
"""


class TestNodes:
    def test_a_cluster_that_runs_our_program_passes(self, head: RayHead) -> None:
        done = head.shaping("nodes", "--address", head.address)
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("ok    node ")
        assert len(done.stdout.splitlines()) == 1

    def test_a_node_with_another_package_is_named_with_both_versions(self, head: RayHead) -> None:
        told = head.python(DIFFERS).stderr.splitlines()[-2]
        assert told.startswith("  node ")
        assert told.endswith(f": peft is {versions()['packages']['peft']}, the driver has 0.20.0")

    def test_nodes_that_do_not_come_are_counted(self, head: RayHead) -> None:
        done = head.shaping("nodes", "--address", head.address, "--wait", 3, "--timeout", 2)
        assert done.returncode == 1
        assert "1 of 3 nodes have joined" in done.stdout
        assert "only 1 of 3 nodes joined within 2 s (node " in done.stderr

    def test_a_missing_token_is_told(self, head: RayHead) -> None:
        done = head.shaping("nodes", "--address", head.address, RAY_AUTH_TOKEN="", HOME=str(head.folder))
        assert done.returncode == 1
        assert "asks for a token, and the one here is missing or wrong" in done.stderr
        assert "Traceback" not in done.stderr


RECORDS = """
import sys, time, urllib.request
import ray
from launch.config.loading import load_study
from launch.tracking.prometheus import record
from launch.distributed.local import RaySettings, running_ray

@ray.remote
def train(run, url):
    for update in range(2):
        seconds = {"seconds/play": 2.0, "seconds/learn": 0.5, "seconds/score": 0.0}
        record(run, {"update": update, "trained": 8, "failed": 1, "loss_tokens": 640}, seconds)
    while "ray_shaping_updates{" not in (page := urllib.request.urlopen(url, timeout=5).read().decode()):
        time.sleep(0.5)
    return page

with running_ray(RaySettings(address=sys.argv[1])):
    print(ray.get(train.remote(load_study(sys.argv[2]).runs()[0], sys.argv[3]), timeout=100))
"""


RECORDS_NOTHING = """
import sys
from launch.config.loading import load_study
from launch.tracking.prometheus import record

def update():
    record(load_study(sys.argv[1]).runs()[0], {"trained": 3}, {"seconds/play": 1.0})

def refuse(*_):
    raise AssertionError("Ray does not run")

update()
assert "ray" not in sys.modules
import ray.util.metrics as metrics
metrics.Counter = metrics.Gauge = metrics.Histogram = refuse
update()
"""


@pytest.fixture
def study(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    small = {"hidden": 16, "layers": 1, "heads": 2, "kv_heads": 1, "steps": 3, "episodes": 16}
    document = {
        "name": "tiny",
        "seeds": 1,
        "model": {"organism": small},
        "train": {"worlds": {"clerk": {"size": 2}}, "updates": 2, "groups": 1, "group_size": 2},
        "eval": {"worlds": {"clerk": {"size": 2}}, "episodes": 1, "access_episodes": 0},
        "arms": {"unshaped": {"role": "reference"}},
    }
    path.write_text(yaml.safe_dump(document))
    return path


class TestStageMetrics:
    def test_without_a_running_ray_nothing_is_recorded_and_ray_is_not_imported(self, study: Path) -> None:
        done = subprocess.run([sys.executable, "-c", RECORDS_NOTHING, study], capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")

    def test_the_metrics_port_shows_stages_episodes_and_tokens(self, head: RayHead, study: Path) -> None:
        pytest.importorskip("opentelemetry.exporter.prometheus", reason="needs shaping[cluster]")
        done = head.python(RECORDS, study, f"http://127.0.0.1:{head.metrics}/metrics")
        assert done.returncode == 0, done.stderr
        lines = [line for line in done.stdout.splitlines() if line.startswith("ray_shaping")]

        def value(name: str, **tags: str) -> float:
            wanted = {"run": "unshaped/seed-0", "study": "tiny", **tags}
            (found,) = [
                line.rpartition(" ")[2]
                for line in lines
                if line.startswith(name + "{") and all(f'{tag}="{text}"' in line for tag, text in wanted.items())
            ]
            return float(found)

        assert value("ray_shaping_stage_seconds_total", stage="play") == 4.0
        assert value("ray_shaping_stage_duration_seconds_count", stage="learn") == 2
        assert value("ray_shaping_episodes_total", fate="trained") == 16
        assert value("ray_shaping_episodes_total", fate="failed") == 2
        assert value("ray_shaping_tokens_total") == 1280
        assert value("ray_shaping_updates") == 2


class TestWhatIsSent:
    def test_a_study_file_travels_alone_and_a_bundled_one_is_there_already(self, study: Path) -> None:
        with prepared(str(study), ["output=/mnt/runs"], arguments=["--only", "unshaped"]) as sent:
            assert [path.name for path in sent.folder.iterdir()] == ["tiny.yaml"]
            assert sent.command == [
                *("shaping", "study", "tiny.yaml", "output=/mnt/runs", "--only", "unshaped", "--address", "auto")
            ]
            assert sent.id.startswith("shaping-tiny-")
        assert not sent.folder.exists()
        with prepared("quickstart", ["output=/mnt/runs"]) as sent:
            assert sent.command[2] == "quickstart"
            assert list(sent.folder.iterdir()) == []

    def test_a_working_directory_is_sent_whole(self, study: Path) -> None:
        with prepared(str(study), ["output=/mnt/runs"], folder=study.parent) as sent:
            assert (sent.folder, sent.command[2]) == (study.parent.resolve(), "tiny.yaml")
        assert study.exists()

    @pytest.mark.parametrize(
        ("change", "told"),
        [
            ({"overrides": []}, "output: 'runs' is relative to the job's temporary folder"),
            ({"folder": Path("elsewhere")}, "tiny.yaml is not in the working directory"),
            ({"folder": Path("nowhere")}, "nowhere is not a directory"),
            ({"environment": {"OMP_NUM_THREADS": "8"}}, "OMP_NUM_THREADS cannot be set"),
        ],
    )
    def test_what_could_not_work_there_is_refused_here(
        self, study: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], told: str
    ) -> None:
        monkeypatch.chdir(study.parent)
        Path("elsewhere").mkdir()
        given = {"overrides": ["output=/mnt/runs"], **change}
        with pytest.raises(ConfigError, match=told), prepared(str(study), **given):
            pass

    def test_a_working_directory_of_gigabytes_is_refused(self, study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("launch.distributed.submit.MAX_FOLDER_BYTES", 10)
        with (
            pytest.raises(ConfigError, match="put models and data on the cluster's shared disk"),
            prepared(str(study), ["output=/mnt/runs"], folder=study.parent),
        ):
            pass

    def test_variables_are_given_or_taken_from_here(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("WANDB_API_KEY", "secret")
        assert environment_of(["WANDB_API_KEY", "A=b=c"]) == {"WANDB_API_KEY": "secret", "A": "b=c"}
        with pytest.raises(ConfigError, match="'UNSET_HERE' is neither KEY=VALUE"):
            environment_of(["UNSET_HERE"])


RUNS_A_JOB = """
import sys
from pathlib import Path
from launch.distributed.submit import Submission, connect, follow
cluster = connect(sys.argv[2])
cluster.submit(Submission(sys.argv[3], ["sh", "-c", sys.argv[5]], Path(sys.argv[4]), {"GREETING": "hello"}))
if sys.argv[6:] == ["stop"]:
    assert cluster.status(sys.argv[3]).code is None
    cluster.stop(sys.argv[3])
ended = follow(cluster, sys.argv[3])
print("ended", ended.code, ended.reason)
"""


#: What a node with an older torch would say of itself.
OLD_TORCH = """
import importlib.metadata as metadata
true = metadata.version
metadata.version = lambda package: "2.12.0" if package == "torch" else true(package)
"""


class TestJobs:
    @pytest.mark.parametrize("how", ["job-server", pytest.param("client", marks=pytest.mark.slow), "ray"])
    def test_a_job_gets_its_files_and_variables_and_its_log_and_failure_come_back(
        self, head: RayHead, tmp_path: Path, how: str
    ) -> None:
        (tmp_path / "said.txt").write_text("from the launcher's disk\n")
        address = {"job-server": head.http, "client": f"ray://127.0.0.1:{head.client}", "ray": head.address}[how]
        command = "cat said.txt; echo $GREETING; pwd; exit 3"
        done = head.python(RUNS_A_JOB, address, f"shaping-test-{how}", tmp_path, command)
        assert done.returncode == 0, done.stderr
        # Ray writes "Running entrypoint" into the same log, at a moment of its own.
        printed = [line for line in done.stdout.splitlines() if line in ("from the launcher's disk", "hello")]
        assert printed == ["from the launcher's disk", "hello"]
        assert str(tmp_path) not in done.stdout, "it runs in a folder of its own"
        last = done.stdout.splitlines()[-1]
        assert last.startswith("ended 1 FAILED" if how == "job-server" else "ended 3 exit code 3")
        assert "3" in last

    @pytest.mark.parametrize("how", ["job-server", "ray"])
    def test_a_job_is_stopped(self, head: RayHead, tmp_path: Path, how: str) -> None:
        address = {"job-server": head.http, "ray": head.address}[how]
        done = head.python(RUNS_A_JOB, address, f"shaping-stop-{how}", tmp_path, "exec sleep 1000", "stop")
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines()[-1].startswith(("ended 1 STOPPED", "ended -15"))

    def test_no_job_server_is_told_with_the_extra(self) -> None:
        with pytest.raises(UserError, match=r"no Ray dashboard answers at .* pip install 'shaping\[cluster\]'"):
            connect("http://127.0.0.1:9")

    def test_a_wrong_token_is_told(self, head: RayHead) -> None:
        sent = ("launch", "quickstart", "output=/mnt/runs", "--address", head.http)
        done = head.shaping(*sent, RAY_AUTH_TOKEN="0" * 32)
        assert done.returncode == 1
        assert "asks for a token" in done.stderr
        assert "Traceback" not in done.stderr

    @pytest.mark.slow
    def test_a_study_is_launched_and_kept_when_it_is_launched_again(
        self, head: RayHead, study: Path, tmp_path: Path
    ) -> None:
        output = f"output={tmp_path / 'out'}"
        first = head.shaping("launch", study, output, "--address", head.http)
        assert first.returncode == 0, first.stdout + first.stderr
        assert "job: shaping-tiny-" in first.stdout
        assert "unshaped/seed-0: finished (1 of 1 runs)" in first.stdout
        assert (tmp_path / "out" / "tiny" / "runs" / "unshaped" / "seed-0" / "result.json").is_file()

        again = head.shaping("launch", study, output, "--address", head.address)
        assert "1 of 1 runs are finished already" in again.stdout

    def test_a_node_with_another_package_stops_a_study_before_anything_is_made(
        self, head: RayHead, study: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "old").mkdir()
        (tmp_path / "old" / "sitecustomize.py").write_text(OLD_TORCH)
        head.join(PYTHONPATH=str(tmp_path / "old"))  # the last test: this node stays
        waited = head.shaping("nodes", "--address", head.address, "--wait", 2, "--timeout", 60)
        assert waited.returncode == 1
        differing = [line for line in waited.stderr.splitlines() if line.startswith("  node ")]
        assert len(differing) == 1, "the other node passes"
        assert "torch is 2.12.0, the driver has 2.13.0" in differing[0]
        sent = head.shaping("launch", study, f"output={tmp_path / 'out'}", "--address", head.http)
        assert sent.returncode == 1
        assert differing[0] in sent.stdout
        assert "model:" not in sent.stdout
