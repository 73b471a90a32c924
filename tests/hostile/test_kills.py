"""A study may be killed at any moment, as often as you like: it ends with the files that it would have had.

Promised: after `kill -9` of the study or of any process of its Ray, the same command resumes. When it is finished,
every file of every run has the bytes of an undisturbed study. Only wall times and logs differ.
"""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import yaml
from waiting import patience

KILLS = 10
TIMES_AND_LOGS = {"timings.jsonl", ".lock"}
STUDY = {
    "name": "killed",
    "seeds": 2,
    "model": {"organism": {"hidden": 32, "layers": 1, "heads": 2, "kv_heads": 1, "vocabulary": 400, "episodes": 12}},
    "train": {
        "worlds": {"steward": {"size": 2}},
        "updates": 24,
        "groups": 1,
        "group_size": 2,
        "max_tokens": 8,
        "checkpoint_every": 2,
        "save_episodes_every": 6,
    },
    "eval": {"worlds": {"clerk": {"size": 2}}, "episodes": 2},
    "arms": {
        "unshaped": {"role": "reference"},
        "inoculation": {"role": "treatment", "interventions": [{"use": "Inoculation", "kind": "eliciting"}]},
    },
}


def command(folder: Path, cache: Path) -> subprocess.Popen[bytes]:
    folder.mkdir(exist_ok=True)
    file = folder / "killed.yaml"
    file.write_text(yaml.safe_dump(STUDY))
    ours = [sys.executable, "-m", "launch.cli", "study", str(file), "--cpus", "2"]
    environment = {**os.environ, "SHAPING_CACHE": str(cache), "OMP_NUM_THREADS": "1"}
    with (folder / "terminal.log").open("ab") as log:
        return subprocess.Popen(ours, cwd=folder, stdout=log, stderr=log, env=environment, start_new_session=True)


def written(folder: Path) -> int:
    """Bytes in the metrics of all runs."""
    return sum(path.stat().st_size for path in folder.glob("runs/killed/runs/*/*/metrics.jsonl"))


def ends_before(process: subprocess.Popen[bytes], folder: Path, delay: float) -> bool:
    """Wait until it has ended (True), or until `delay` seconds after it has begun to add to the metrics."""
    before, deadline = written(folder), time.monotonic() + patience(200)
    while process.poll() is None and written(folder) == before:
        assert time.monotonic() < deadline, "it does nothing"
        time.sleep(0.05)
    try:
        process.wait(delay)
    except subprocess.TimeoutExpired:
        return False
    return True


def kill_one(process: subprocess.Popen[bytes], dice: random.Random) -> None:
    """Kill the driver, or one of its processes and then the driver, before anything is mended."""
    tree = psutil.Process(process.pid).children(recursive=True)
    if tree and dice.random() < 0.5:
        with contextlib.suppress(psutil.NoSuchProcess):
            dice.choice(tree).kill()
    process.kill()
    process.wait()


def files(folder: Path) -> dict[str, bytes]:
    """Contents of the files of all runs, by their names."""
    runs = folder / "runs" / "killed" / "runs"
    paths = [path for path in sorted(runs.rglob("*")) if path.is_file() and path.name not in TIMES_AND_LOGS]
    return {path.relative_to(runs).as_posix(): path.read_bytes() for path in paths}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, bytes]]:
    """The cache with the organism, and the files of a study that nobody killed."""
    cache, folder = tmp_path_factory.mktemp("cache"), tmp_path_factory.mktemp("undisturbed")
    assert command(folder, cache).wait(patience(400)) == 0, (folder / "terminal.log").read_text()
    return cache, files(folder)


@pytest.mark.slow
def test_ten_random_kills_leave_every_file_as_it_would_have_been(
    undisturbed: tuple[Path, dict[str, bytes]], tmp_path: Path
) -> None:
    cache, expected = undisturbed
    folder, dice, kills = tmp_path / "study", random.Random(11), 0
    process = command(folder, cache)
    while kills < KILLS and not ends_before(process, folder, dice.uniform(0.0, 2.0)):
        kill_one(process, dice)
        kills += 1
        process = command(folder, cache)
    assert process.wait(patience(400)) == 0, (folder / "terminal.log").read_text()
    assert kills == KILLS, "the study is too short for so many kills"
    assert set(files(folder)) == set(expected)
    assert not [name for name, content in files(folder).items() if content != expected[name]]
