"""Nodes that do not share the driver's disk get a model of the hub whole, or have it in a cache of their own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from fake_hub import FIRST, FakeHub
from launch_fakes import study

from launch.config.model import HubModel
from launch.distributed.run_worker import Job, _model_here, archive_model, extract
from launch.hub.fetch import fetch
from shaping.models.model_files import hashes


def test_what_links_point_to_is_sent(hub: FakeHub, model: Path, tmp_path: Path) -> None:
    hub.add("some/model", model)
    snapshot = fetch(HubModel(hub="some/model"))
    assert (snapshot / "model.safetensors").is_symlink()
    extract(archive_model(snapshot), tmp_path / "sent")
    assert hashes(tmp_path / "sent") == hashes(snapshot)
    assert not any(path.is_symlink() for path in (tmp_path / "sent").iterdir())


def test_a_node_takes_the_same_commit_from_its_own_cache(hub: FakeHub, model: Path, tmp_path: Path) -> None:
    hub.add("some/model", model)
    snapshot = fetch(HubModel(hub="some/model"))
    (run,) = study(tmp_path, {"unshaped": ""}, model="some/model", seeds=1).runs()
    job = Job(
        run=run.model_copy(update={"commit": FIRST}),
        directory=tmp_path,
        log=tmp_path / "log",
        model=tmp_path / "path-of-the-driver",
        trainer="",
        search_path=(),
        marker=(tmp_path / "study.json", ""),
        model_hashes=hashes(snapshot),
    )
    assert _model_here(job, local=False) == snapshot
    assert _model_here(replace(job, model_hashes={"model.safetensors": "other"}), local=False) is None
    assert _model_here(replace(job, run=run), local=False) is None
