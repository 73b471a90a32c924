"""Training states on disk: what is read is what was written, or it is not read at all."""

from __future__ import annotations

import errno
import json
import math
import os
import random
import resource
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from launch.errors import DiskFullError, RunDirectoryError, UserError
from launch.run.rng import rng_state, seed_all, set_rng_state
from launch.storage.checkpoint import Checkpoints, State

TENSORS = {
    "learner/weight": torch.randn(3, 5),
    "learner/half": torch.randn(4).bfloat16(),
    "learner/step": torch.tensor(7.0),
    "rng/torch": torch.get_rng_state(),
}
VALUES = {"version": 3, "nested": {"list": [1, 2.5, "x", None]}, "largest": math.inf, "third": 1 / 3}


@pytest.fixture
def checkpoints(tmp_path: Path) -> Checkpoints:
    return Checkpoints(tmp_path / "state", "digest")


def save(checkpoints: Checkpoints, *updates: int) -> None:
    """With a file that another process has written into the folder."""
    for update in updates:
        tensors = {**TENSORS, "learner/step": torch.tensor(float(update))}

        def made(folder: Path, update: int = update, tensors: dict[str, torch.Tensor] = tensors) -> State:
            (folder / "learner.safetensors").write_text(f"a rank's, after {update}")
            return State(update, tensors, VALUES, {"python": "3"})

        checkpoints.collect(update, made)


def usable(checkpoints: Checkpoints) -> tuple[list[int], str]:
    """(updates of the states that are read, what is told)."""
    told: list[str] = []
    return [state.update for state in checkpoints.states(told.append)], "\n".join(told)


def names(checkpoints: Checkpoints) -> list[str]:
    return sorted(os.listdir(checkpoints.path))


def test_a_state_comes_back_as_it_was(checkpoints: Checkpoints) -> None:
    checkpoints.save(State(4, TENSORS, VALUES, {"python": "3"}))
    (state,) = checkpoints.states(pytest.fail)
    assert (state.update, state.values, state.versions) == (4, VALUES, {"python": "3"})
    assert set(state.tensors) == set(TENSORS)
    for name, tensor in TENSORS.items():
        assert state.tensors[name].dtype == tensor.dtype and torch.equal(state.tensors[name], tensor)


def test_what_others_wrote_into_it_is_where_the_state_is(checkpoints: Checkpoints) -> None:
    save(checkpoints, 4)
    (state,) = checkpoints.states(pytest.fail)
    assert state.folder == checkpoints.path / "update-000004"
    assert (state.folder / "learner.safetensors").read_text() == "a rank's, after 4"


def test_the_last_two_are_kept_and_latest_names_the_newest(checkpoints: Checkpoints) -> None:
    save(checkpoints, 2, 4, 6)
    assert names(checkpoints) == ["latest", "update-000004", "update-000006"]
    assert (checkpoints.path / "latest").read_text() == "update-000006\n"
    assert usable(checkpoints) == ([6, 4], "") and checkpoints.newest() == 6


def test_where_there_is_nothing_nothing_is_found(checkpoints: Checkpoints) -> None:
    assert usable(checkpoints) == ([], "") and checkpoints.newest() is None and not checkpoints.present()


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-10] ^= 4
    path.write_bytes(data)


def change(path: Path) -> None:
    path.write_text(path.read_text().replace('"version": 3', '"version": 4'))


def empty(path: Path) -> None:
    shutil.rmtree(path)
    path.mkdir()


DAMAGES: list[tuple[str, Callable[[Path], object], str]] = [
    ("tensors.safetensors", truncate, "bytes"),
    ("tensors.safetensors", Path.unlink, "has 0 of"),
    ("tensors.safetensors", flip, "the checksum of its tensors.safetensors does not match"),
    ("learner.safetensors", truncate, "its learner.safetensors has 14 of 17 bytes"),
    ("learner.safetensors", Path.unlink, "has 0 of"),
    ("learner.safetensors", flip, "the checksum of its learner.safetensors does not match"),
    ("state.json", truncate, "cannot be read"),
    ("state.json", change, "the checksum of its state.json does not match"),
    ("state.json", lambda path: path.write_text("{}"), "not a training state"),
    ("state.json", lambda path: path.write_bytes(b"\xff\x00"), "cannot be read"),
    ("state.json", Path.unlink, "it has no state.json"),
    ("", empty, "it has no state.json"),
]


@pytest.mark.parametrize(("name", "damage", "reason"), DAMAGES)
def test_what_is_damaged_is_told_and_the_one_before_is_used(
    checkpoints: Checkpoints, name: str, damage: Callable[[Path], object], reason: str
) -> None:
    save(checkpoints, 2, 4)
    damage(checkpoints.path / "update-000004" / name)
    found, told = usable(checkpoints)
    assert found == [2] and "update-000004 cannot be used" in told and reason in told


@pytest.mark.parametrize("latest", [None, "", "update-000099\n", "../../etc\n"])
def test_without_a_sound_latest_the_newest_is_looked_for(checkpoints: Checkpoints, latest: str | None) -> None:
    save(checkpoints, 2, 4)
    path = checkpoints.path / "latest"
    path.write_text(latest) if latest is not None else path.unlink()
    assert usable(checkpoints)[0] == [4, 2]


def test_what_is_newer_than_latest_was_never_finished(checkpoints: Checkpoints) -> None:
    save(checkpoints, 2, 4)
    (checkpoints.path / "latest").write_text("update-000002\n")
    assert usable(checkpoints)[0] == [2]
    save(checkpoints, 4)  # and is written again
    assert usable(checkpoints)[0] == [4, 2]


def test_a_state_of_another_config_is_not_read(checkpoints: Checkpoints) -> None:
    save(checkpoints, 2)
    other = Checkpoints(checkpoints.path, "another digest")
    found, told = usable(other)
    assert found == [] and "belongs to another config" in told and other.newest() is None and other.present()


def test_another_format_is_refused(checkpoints: Checkpoints) -> None:
    save(checkpoints, 2)
    path = checkpoints.path / "update-000002" / "state.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"version": 3}))
    with pytest.raises(RunDirectoryError, match=r"version 3 .* delete it to restart the run from the beginning"):
        usable(checkpoints)


def test_a_state_that_is_not_json_is_refused_and_leaves_the_one_before(checkpoints: Checkpoints) -> None:
    save(checkpoints, 2)
    with pytest.raises(UserError, match=r"ndarray.*state_dict\(\) of an intervention may only return JSON values"):
        checkpoints.save(State(4, TENSORS, {"arm": np.zeros(2)}, {}))
    assert names(checkpoints) == ["latest", "update-000002"]


def test_a_full_disk_is_told_and_leaves_the_one_before(
    checkpoints: Checkpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(checkpoints, 2)

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(DiskFullError, match="free some space"):
            save(checkpoints, 4)
    assert names(checkpoints) == ["latest", "update-000002"] and usable(checkpoints)[0] == [2]


def test_an_error_of_the_disk_while_tensors_are_written_keeps_its_number(checkpoints: Checkpoints) -> None:
    """safetensors puts it into a text; a limit on the size of files stands for a disk that is full."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(OSError, match="os error") as raised:
            save(checkpoints, 2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert raised.value.errno == errno.EFBIG and usable(checkpoints)[0] == []


def draws() -> tuple[Any, ...]:
    gauss = random.gauss(0, 1), np.random.standard_normal()  # both keep a second number for the next call
    return (*gauss, torch.rand(2).tolist(), np.random.randint(100), random.random())


def test_every_global_generator_goes_on_where_it_was(checkpoints: Checkpoints) -> None:
    seed_all(3)
    first = draws()
    tensors, values = rng_state()
    checkpoints.save(State(1, tensors, values, {}))
    wanted = [draws() for _ in range(3)]
    (state,) = checkpoints.states(pytest.fail)
    set_rng_state(state.tensors, state.values)
    assert [draws() for _ in range(3)] == wanted
    seed_all(3)
    assert draws() == first
