"""Nobody reaches a run from another machine.

Promised: whatever a run on one machine starts (Ray, rollout workers, learner ranks, vLLM, trackers) listens on the
loopback address, and only the processes that docs/security.md lists listen at all. The tables of that page are read
here: a socket that is not in them fails these tests, and so does a line that is no longer true.
"""

from __future__ import annotations

import importlib.util
import re
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from listening import Listener, listeners_of_run
from small_organism import small_organism
from waiting import patience

PAGE = Path(__file__).parents[2] / "docs" / "security.md"
WORLDS = {"steward": {"size": 2}}
STUDY: dict[str, Any] = {
    "name": "open",
    "seeds": 1,
    "train": {"worlds": WORLDS, "updates": 1, "groups": 2, "group_size": 2, "max_tokens": 8},
    "eval": {"worlds": WORLDS, "episodes": 1, "access_episodes": 0, "watch": ["always"], "placebo": ["on"]},
    "arms": {"unshaped": {"role": "reference"}},
}
RANKS = {"learner_group": {"strategy": "data", "ranks": 2}}


class Line(NamedTuple):
    """A line of the table "What listens"."""

    run: str
    processes: list[str]
    address: str


def table() -> list[Line]:
    _, _, section = PAGE.read_text().partition("## What listens")
    cells = [re.split(r"\s*\|\s*", row.strip("| ")) for row in section.partition("\n## ")[0].splitlines() if "|" in row]
    return [Line(row[0], re.findall(r"`([^`]+)`", row[1]), row[2]) for row in cells[2:]]


def check(found: list[Listener], *runs: str) -> None:
    """Every socket is in a line of `runs`, and every line of `runs` has a socket."""
    lines = [line for line in table() if line.run in runs]
    assert {line.run for line in lines} == set(runs), "docs/security.md has other kinds of runs"
    processes = {socket.process for socket in found}
    for socket in found:
        matching = [line for line in lines if any(fnmatch(socket.process, name) for name in line.processes)]
        assert matching, f"{socket} listens, and docs/security.md does not say so"
        assert {line.address for line in matching} == {"loopback"}
        assert socket.address in ("127.0.0.1", "::1"), f"{socket} is open to other machines"
    for line in lines:
        assert any(fnmatch(process, name) for name in line.processes for process in processes), f"{line}: none listens"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_organism(tmp_path_factory.mktemp("cache"))


@pytest.mark.slow
def test_a_run_in_one_process_does_not_listen_at_all(model: Path, tmp_path: Path) -> None:
    assert listeners_of_run(STUDY, model, tmp_path, patience(60)) == []


def test_ray_workers_and_learner_ranks_listen_to_this_machine_alone(model: Path, tmp_path: Path) -> None:
    study = {**STUDY, "train": {**STUDY["train"], **RANKS}, "rollout": {"workers": 1, "cpus": 1}}
    found = listeners_of_run(study, model, tmp_path, patience(120))
    check(found, "Ray on this machine", "learner group")


@pytest.mark.slow
@pytest.mark.parametrize("tracker", ["tensorboard", "wandb", "trackio"])
def test_trackers_do_not_listen(tracker: str, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not importlib.util.find_spec(tracker):
        pytest.skip(f"needs shaping[{tracker}]")
    for variable in ("TRACKIO_DIR", "WANDB_DIR"):
        monkeypatch.setenv(variable, str(tmp_path))
    options = {"mode": "offline"} if tracker == "wandb" else {}
    found = listeners_of_run({**STUDY, "tracking": [{"use": tracker, **options}]}, model, tmp_path, patience(120))
    assert found == []


@pytest.mark.slow
def test_vllm_listens_to_this_machine_alone(tmp_path: Path) -> None:
    pytest.importorskip("vllm", reason="needs shaping[vllm]")
    vllm = {"engine": "vllm", "workers": 1, "vllm": {"kv_cache_gib": 0.1, "max_num_seqs": 8}}
    model = small_organism(tmp_path, hidden=64, context=1024)
    found = listeners_of_run({**STUDY, "rollout": vllm}, model, tmp_path, patience(300))
    check(found, "Ray on this machine", "vLLM")
