"""Episode files are first read by a process that may die of them."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from synthetic_study import config, write_study

from envs.store import StoreError
from launch.report.files import episode_files
from launch.report.files.episode_files import EpisodeFiles, try_reading


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    arms = {"unshaped": {"role": "reference"}}
    study = write_study(tmp_path_factory.mktemp("files") / "study", config(seeds=3, arms=arms), updates=1)
    return sorted(study.rglob("eval.parquet"))


def test_sound_files_have_no_problem(files: list[Path]) -> None:
    assert try_reading(files) == dict.fromkeys(files, "")
    assert len(EpisodeFiles(files)(files[0])) == 6


def test_memory_is_limited(files: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(episode_files, "MEMORY", 10_000)
    with pytest.raises(StoreError, match="more than the 10,000 bytes of memory"):
        EpisodeFiles(files[:1])(files[0])


@pytest.mark.parametrize("late", [False, True])
def test_a_file_at_which_the_process_dies_costs_itself(
    files: list[Path], monkeypatch: pytest.MonkeyPatch, late: bool
) -> None:
    """A process that dies, or never ends, at the second file."""

    def run(command: list[str], **_: Any) -> Any:
        tried = [Path(name) for name in command if name.endswith(".parquet")]
        answers = tried[: tried.index(files[1])] if files[1] in tried else tried
        output = "".join(json.dumps("") + "\n" for _ in answers).encode()
        if late and files[1] in tried:
            raise subprocess.TimeoutExpired(command, 1, output)
        return SimpleNamespace(stdout=output, returncode=-11)

    monkeypatch.setattr(episode_files.subprocess, "run", run)
    problems = try_reading(files)
    assert (problems[files[0]], problems[files[2]]) == ("", "")
    assert ("takes longer" if late else "died (code -11)") in problems[files[1]]


def test_files_are_tried_together_and_only_if_one_is_opened(files: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[list[Path]] = []
    monkeypatch.setattr(episode_files, "try_reading", lambda paths: (tried.append(list(paths)), {})[1])
    opened = EpisodeFiles([*files, files[0].with_name("absent.parquet")])
    assert not tried
    opened(files[0])
    opened(files[1])
    assert tried == [files]
