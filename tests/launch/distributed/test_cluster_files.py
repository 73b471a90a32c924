"""The files for clusters, and the docs of them: their form, their versions, and every command in them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from command_lines import parse
from kuberay import RayCluster, RayJob, StorageClaim

import launch.cli
from launch.config.loading import load_study
from launch.storage.versions import installed_version, pins

ROOT = Path(launch.__file__).resolve().parent.parent
FILES = ROOT / "launch" / "cluster"
DOCS = [ROOT / "docs" / "clusters.md", ROOT / "docs" / "tracking.md"]


def read(name: str) -> Any:
    return yaml.safe_load((FILES / name).read_text())


class TestKubernetes:
    def test_every_document_has_the_shape_of_its_definition(self) -> None:
        RayCluster.model_validate(read("raycluster.yaml"))
        RayJob.model_validate(read("rayjob.yaml"))
        StorageClaim.model_validate(read("storage.yaml"))

    def test_the_job_has_the_cluster_of_the_other_file(self) -> None:
        assert read("rayjob.yaml")["spec"]["rayClusterSpec"] == read("raycluster.yaml")["spec"]

    def test_the_head_takes_no_work_and_the_groups_grow_on_demand(self) -> None:
        spec = read("raycluster.yaml")["spec"]
        assert spec["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
        assert spec["enableInTreeAutoscaling"] is True
        assert spec["authOptions"] == {"mode": "token"}
        groups = {group["groupName"]: group for group in spec["workerGroupSpecs"]}
        assert groups.keys() == {"cpu", "gpu"}
        assert groups["gpu"]["minReplicas"] == 0, "GPUs are not held for nothing"
        (container,) = groups["gpu"]["template"]["spec"]["containers"]
        assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"

    def test_every_node_sees_the_same_disk_and_the_job_writes_there(self) -> None:
        spec = read("raycluster.yaml")["spec"]
        claim = read("storage.yaml")["metadata"]["name"]
        for group in [spec["headGroupSpec"], *spec["workerGroupSpecs"]]:
            pod = group["template"]["spec"]
            volumes = {volume["name"]: volume for volume in pod["volumes"]}
            assert volumes["runs"]["persistentVolumeClaim"]["claimName"] == claim
            assert {"name": "runs", "mountPath": "/mnt/shaping"} in pod["containers"][0]["volumeMounts"]
        assert "output=/mnt/shaping/" in read("rayjob.yaml")["spec"]["entrypoint"]


class TestVersions:
    def test_the_cluster_has_the_ray_that_is_pinned(self) -> None:
        assert read("raycluster.yaml")["spec"]["rayVersion"] == pins()["ray"]

    def test_the_image_has_what_is_pinned_and_its_tag_is_our_version(self) -> None:
        text = (FILES / "Dockerfile").read_text()
        assert f"torch=={pins()['torch']} " in text
        assert "-c constraints.txt" in text
        images = re.findall(r"image: (\S+)", (FILES / "raycluster.yaml").read_text())
        assert len(images) == 3 and len(set(images)) == 1, "one image for all nodes"
        assert images[0].endswith(f":{installed_version('shaping')}")

    def test_the_image_copies_what_the_package_is_built_from(self) -> None:
        copied = re.findall(r"^COPY (.+) \S+$", (FILES / "Dockerfile").read_text(), re.MULTILINE)
        names = {name for line in copied for name in line.split()}
        assert names >= {"pyproject.toml", "constraints.txt", "README.md", "envs", "rewards", "shaping", "launch"}
        assert all((ROOT / name).exists() for name in names)
        ignored = (FILES / "Dockerfile.dockerignore").read_text().split()
        assert {f"!{name}" for name in names} <= set(ignored), "what is copied must not be ignored"


def commands(text: str, program: str) -> Iterator[list[str]]:
    """Every command line of `program` in a text: in code, comments, YAML values and between back-ticks."""
    joined = re.sub(r"\\\n\s*", " ", text)
    for match in re.finditer(rf"(?:^|[`:#&]|--|-)\s*((?:{program}) [^`\n]*)", joined, re.MULTILINE):
        line = re.sub(r"\s(2?>|&|#).*$", "", match[1])
        if "..." not in line and '"$' not in line:
            yield shlex.split(line)


def ours() -> list[list[str]]:
    texts = [path.read_text() for path in [*DOCS, *sorted(FILES.iterdir())]]
    found = [line[1:] for text in texts for line in commands(text, "shaping")]
    found = [line for line in found if line[0] == "nodes" or any(not word.startswith("-") for word in line[1:])]
    submitted = [line for text in texts for line in commands(text, "sbatch")]
    batch = [line[line.index("launch/cluster/slurm.sbatch") + 1 :] for line in submitted]
    return found + [[*line, "--address", "10.0.0.1:6379"] for line in batch]


def test_enough_commands_are_found() -> None:
    assert len(ours()) > 10
    assert {line[0] for line in ours()} == {"study", "train", "launch", "job", "nodes"}


@pytest.mark.parametrize("line", ours(), ids=" ".join)
def test_every_command_of_ours_is_one_that_we_have(line: list[str]) -> None:
    name, given = parse(typer.main.get_command(launch.cli.app), list(line))
    if name in ("study", "train", "launch"):  # a stand-in for the user's own file
        config = given["config"].replace("my.yaml", "quickstart")
        study = load_study(config, given["overrides"] or [])
        assert name != "launch" or study.output.startswith("/")
        assert name != "train" or given["arm"] in study.arms


def rays() -> list[list[str]]:
    texts = [path.read_text() for path in [*DOCS, *sorted(FILES.iterdir())]]
    found = [line[1:] for text in texts for line in commands(text, "ray")]
    return [line for line in found if line[0] in ("job", "get-auth-token") and len(line) > 2 - (line[0] != "job")]


@pytest.mark.parametrize("line", rays(), ids=" ".join)
def test_every_command_of_rays_is_one_that_it_has(line: list[str]) -> None:
    from ray.scripts.scripts import cli

    assert parse(cli, list(line))


def test_the_runtime_environment_is_one_and_installs_nothing() -> None:
    from ray.runtime_env import RuntimeEnv

    document = read("runtime-env.yaml")
    RuntimeEnv(**document)
    assert document.keys() <= {"excludes", "env_vars", "working_dir"}
    assert ".venv" in document["excludes"] and "runs" in document["excludes"]


def test_files_that_the_docs_name_exist_and_travel_with_the_package() -> None:
    for name in re.findall(r"launch/cluster/([\w.-]+\w)", (ROOT / "docs" / "clusters.md").read_text()):
        assert (FILES / name).is_file(), name
    assert '"cluster/*"' in (ROOT / "pyproject.toml").read_text()
