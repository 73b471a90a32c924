"""Code of strangers can pay, prompt and credit without seeing what is sealed or what was saved.

Promised of `--isolated`: rewards and interventions that are not this project's own run in a process that has no labels,
no file of the study, no environment of yours, no network and no view of other processes. Results are the same to the
byte. A plug-in that cannot run so is refused by name before the start; one that hangs or dies is told by name.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from small_organism import small_organism

from envs.episode import Episode, Labels, Sealed
from launch.config.isolation import Isolation
from launch.config.loading import parse_study
from launch.errors import UserError
from launch.isolation.sandbox import landlock_version
from launch.isolation.standins import isolated
from launch.preflight import check_plugins
from launch.run.execute import execute
from launch.storage.rundir import RunDirectory
from rewards.base import scored
from shaping.hooks import InterventionError

WORLDS = {"steward": {"size": 2}, "clerk": {"size": 2}}
SECRET = "hunter2-of-the-user"
needs_landlock = pytest.mark.skipif(not landlock_version(), reason="this kernel has no Landlock")


def study(output: Path, apart: bool, interventions: tuple[str, ...] = ("Hints", "Sober")) -> Any:
    arm = {
        "role": "reference",
        "interventions": [{"use": f"third_party:{name}"} for name in interventions],
        "reward": {"use": "third_party:Thrift", "price": 0.02},
    }
    document = {
        "name": "apart",
        "seeds": 1,
        "train": {"worlds": WORLDS, "updates": 2, "groups": 2, "group_size": 4, "max_tokens": 12},
        "eval": {"worlds": WORLDS, "episodes": 1, "access_episodes": 0, "watch": ["always"], "placebo": ["on"]},
        "arms": {"strangers": arm},
        "output": str(output),
        "isolated": apart,
    }
    return parse_study(document, "test").runs()[0]


def limits(hidden: Path, seconds: float = 30.0) -> Isolation:
    return Isolation(hidden=str(hidden), step_seconds=seconds, reward_seconds=seconds, stage_seconds=seconds)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, Path]:
    """One run with the plug-ins in its own process, and one with them apart."""
    model = small_organism(tmp_path_factory.mktemp("cache"))
    folders = {apart: tmp_path_factory.mktemp("apart" if apart else "inside") for apart in (False, True)}
    for apart, folder in folders.items():
        execute(study(folder, apart), model, RunDirectory(folder / "run"))
    return folders


def test_results_are_the_same_to_the_byte(finished: dict[bool, Path]) -> None:
    ours, theirs = ({p.relative_to(f).as_posix(): p for p in f.rglob("*") if p.is_file()} for f in finished.values())
    assert ours.keys() == theirs.keys()
    assert {"run/metrics.jsonl", "run/eval.jsonl", "run/result.json", "run/episodes/eval.parquet"} <= ours.keys()
    differing = [name for name, path in ours.items() if path.read_bytes() != theirs[name].read_bytes()]
    assert set(differing) <= {"run/timings.jsonl", "run/.lock"}


@needs_landlock
def test_a_spy_gets_nothing(finished: dict[bool, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", SECRET)
    monkeypatch.setenv("RAY_AUTH_TOKEN", SECRET)
    folder = finished[True]
    fields = {"folder": str(folder), "secret": SECRET}
    spy = isolated("intervention", "third_party:Spy", fields, "arms.x.interventions.0", "x", limits(folder))
    assert {name: loot for name, loot in spy.state_dict().items() if loot} == {}
    assert not (folder / "planted").exists()


def test_labels_never_cross(make_episode: Any, finished: dict[bool, Path]) -> None:
    sealed: Episode = make_episode()
    assert isinstance(sealed.truth, Sealed)
    assert isinstance(sealed.truth.open()[0], Labels)
    fields = {"folder": str(finished[True]), "secret": SECRET}
    spy = isolated("intervention", "third_party:Spy", fields, "arms.x.interventions.0", "x", limits(finished[True]))
    with pytest.raises(InterventionError, match="SealedError"):
        spy.readings(sealed)  # not redacted: what is sealed is not sent


def test_what_needs_the_policy_is_refused_by_name_before_the_start(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"NeedsPolicy overrides auxiliary_loss\(\) and deploy\(\)"):
        check_plugins([study(tmp_path, True, ("NeedsPolicy",))])


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("hang", r"'third_party:Sullen' gave no answer within 2 s in score_group\(\)"),
        ("die", r"'third_party:Sullen' died in score_group\(\) \(exit code 7\)"),
    ],
)
def test_a_plugin_that_hangs_or_dies_is_told_by_name(how: str, told: str, make_episode: Any, tmp_path: Path) -> None:
    reward = isolated("reward", "third_party:Sullen", {"how": how}, "arms.x.reward", "x", limits(tmp_path, 2.0))
    with pytest.raises(Exception, match=told):
        scored(reward, [make_episode()])
